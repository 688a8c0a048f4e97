package watchbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/sse"
)

// place is where a hub is, and how it is reached.
type place struct {
	*testing.T
	url    string
	client *http.Client
}

// at returns the place of a hub that serves plain HTTP at an address.
func at(t *testing.T, addr string) *place {
	tr := &http.Transport{MaxIdleConnsPerHost: 16}
	t.Cleanup(tr.CloseIdleConnections)
	return &place{t, "http://" + addr, &http.Client{Transport: tr}}
}

// try makes a call, as "POST /v1/groups/foo", with the names and values of header fields.
func (p *place) try(ctx context.Context, call, body string, header ...string) (*http.Response, error) {
	method, path, _ := strings.Cut(call, " ")
	r, err := http.NewRequestWithContext(ctx, method, p.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return p.client.Do(r)
}

// do makes a call and returns the status and body of its answer.
func (p *place) do(call, body string, header ...string) (int, string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp, err := p.try(ctx, call, body, header...)
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// wants is do for an answer of that status.
func (p *place) wants(status int, call, body string, header ...string) string {
	p.Helper()
	got, answer := p.do(call, body, header...)
	if got != status {
		p.Errorf("%s: %d, want %d: %s", call, got, status, answer)
	}
	return answer
}

// refused is do for an answer that is a problem of that status and code.
func (p *place) refused(status int, code, call, body string, header ...string) {
	p.Helper()
	if answer := p.wants(status, call, body, header...); !strings.Contains(answer, `"code":"`+code+`"`) {
		p.Errorf("%s: want %s: %s", call, code, answer)
	}
}

// ear is a client of one stream.
type ear struct {
	*place
	uid, secret string
	cut         func() // closes its connection
	events      chan sse.Event
}

// listen opens a stream and waits for its session event. A secret may be given.
func (p *place) listen(target, secret string, header ...string) *ear {
	p.Helper()
	ctx, cut := context.WithCancel(context.Background())
	p.Cleanup(cut)
	if secret != "" {
		header = append(header, "Watchbox-Session", secret)
	}
	resp, err := p.try(ctx, "GET "+target, "", header...)
	if err != nil {
		p.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		p.Fatalf("%s: %s: %s", target, resp.Status, b)
	}
	l := &ear{place: p, cut: cut, secret: secret, events: make(chan sse.Event, 1<<16)}
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer close(l.events)
		defer func() { _ = resp.Body.Close() }()
		for ev, err := range sse.NewReader(resp.Body).All() {
			if err != nil {
				return
			}
			l.events <- ev
		}
	}()
	p.Cleanup(func() { cut(); <-over })
	var hello struct{ UID, Secret string }
	ev := l.next()
	if err := json.Unmarshal(ev.Data, &hello); err != nil || ev.Type != "session" {
		p.Fatalf("the stream begins with %s: %s", ev.Type, ev.Data)
	}
	l.uid = hello.UID
	if secret == "" {
		l.secret = hello.Secret
	}
	return l
}

// next returns the next event.
func (l *ear) next() sse.Event {
	l.Helper()
	select {
	case ev, ok := <-l.events:
		if !ok {
			l.Fatal("the stream has ended")
		}
		return ev
	case <-time.After(patience):
		l.Fatal("nothing comes")
	}
	panic("unreachable")
}

// ended fails unless the stream ends without another event.
func (l *ear) ended() {
	l.Helper()
	select {
	case ev, more := <-l.events:
		if more {
			l.Errorf("there is more: %s %s", ev.Type, ev.Data)
		}
	case <-time.After(patience):
		l.Error("the stream does not end")
	}
}

// message is what a listener gets.
type message struct {
	ID, Group, UID, Event string
	Msg                   json.RawMessage
	Retained              bool
}

func (l *ear) message() (m message) {
	l.Helper()
	ev := l.next()
	if err := json.Unmarshal(ev.Data, &m); err != nil || m.Group == "" {
		l.Fatalf("%s %s is no message", ev.Type, ev.Data)
	}
	return m
}

// gets fails unless the next messages have those payloads.
func (l *ear) gets(want ...string) {
	l.Helper()
	for _, w := range want {
		if m := l.message(); string(m.Msg) != w {
			l.Fatalf("%s comes, want %s", m.Msg, w)
		}
	}
}

// proof is the header that proves the session.
func (l *ear) proof() []string { return []string{"Watchbox-Session", l.secret} }

// own is a call about the session itself.
func (l *ear) own(status int, method, path, body string, header ...string) {
	l.Helper()
	l.wants(status, method+" /v1/sessions/"+l.uid+path, body, append(l.proof(), header...)...)
}

// events collects what happens, by session.
type events struct {
	*testing.T
	mu   sync.Mutex
	news chan struct{} // closed when there is more
	list map[string][]string
}

func newEvents(t *testing.T) *events {
	return &events{T: t, news: make(chan struct{}), list: map[string][]string{}}
}

func (e *events) note(uid, format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list[uid] = append(e.list[uid], fmt.Sprintf(format, args...))
	close(e.news)
	e.news = make(chan struct{})
}

func (e *events) of(uid string) (got string, news chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.list[uid], ", "), e.news
}

// are waits until that, separated by commas, is all that has happened to a session.
func (e *events) are(uid, want string) {
	e.Helper()
	late := time.After(patience)
	for {
		got, news := e.of(uid)
		if got == want {
			return
		}
		select {
		case <-news:
		case <-late:
			e.Fatalf("session %s:\n%s, want\n%s", uid, got, want)
		}
	}
}

// hear has a hub's callbacks noted.
func (e *events) hear(h *watchbox.Hub) {
	h.OnConnect(func(s watchbox.Session) { e.note(s.UID, "connect") })
	h.OnJoin(func(s watchbox.Session, filter string) { e.note(s.UID, "join %s", filter) })
	h.OnLeave(func(s watchbox.Session, filter string) { e.note(s.UID, "leave %s", filter) })
	h.OnMessage(func(m watchbox.Message) { e.note(m.UID, "message %s", m.Text()) })
	h.OnReconnect(func(s watchbox.Session) { e.note(s.UID, "reconnect") })
	h.OnDisconnect(func(s watchbox.Session, why watchbox.Reason) { e.note(s.UID, "disconnect %s", why) })
}

func TestPresenceIsToldExactly(t *testing.T) {
	t.Parallel()
	_, addr := serve(t, watchbox.WithSessionTimeout(10*time.Second)) // long enough for a busy machine to reconnect
	p := at(t, addr)
	room, all := p.listen("/v1/groups/$presence/room?format=raw", ""), p.listen("/v1/groups/$presence/%23", "")
	told := func(uid string, want ...string) {
		t.Helper()
		for _, w := range want {
			event, reason, _ := strings.Cut(w, " ")
			w = fmt.Sprintf(`{"event":"%s","uid":"%s"`, event, uid)
			if reason != "" {
				w += fmt.Sprintf(`,"reason":"%s"`, reason)
			}
			w += "}"
			if ev := room.next(); string(ev.Data) != w {
				t.Fatalf("%s is told, want %s", ev.Data, w)
			}
			all.gets(w)
		}
	}
	a := p.listen("/v1/groups/room", "")
	told(a.uid, "join")
	tab := p.listen("/v1/groups/room", a.secret)
	a.cut()
	b := p.listen("/v1/groups/room", "")
	told(b.uid, "join")
	tab.cut()
	told(a.uid, "lost closed")
	again := p.listen("/v1/groups/room", a.secret)
	told(a.uid, "back closed")
	again.own(204, "DELETE", "/groups/room", "")
	told(a.uid, "leave")
	again.own(204, "PUT", "/groups/room", "")
	told(a.uid, "join")
	again.own(204, "DELETE", "", "")
	told(a.uid, "gone ended")
	b.cut()
	told(b.uid, "lost closed", "gone closed")
	c := p.listen("/v1/groups/room", "")
	p.wants(204, "DELETE /v1/sessions/"+c.uid, "")
	told(c.uid, "join", "gone kicked")
	p.listen("/v1/groups/other/%2B", "")
	if m := all.message(); m.Group != "$presence/other/+" {
		t.Errorf("the presence of a pattern is told to %s", m.Group)
	}
}

// TestALiveJoinHasNoSeam is about etcd's issue 20655: while others publish at full speed a stream
// joins and leaves. What is published after the PUT was answered, and before the DELETE was asked,
// comes once and in order; what is retained comes first.
func TestALiveJoinHasNoSeam(t *testing.T) {
	hub, addr := serve(t)
	p := at(t, addr)
	p.wants(201, "POST /v1/groups/sea/state?retain=true", "calm")
	streams := map[string]*ear{ // by a group that each has of its own
		"alone": p.listen("/v1/groups/alone", ""), "busy": p.listen("/v1/events?group=busy&group=noise", ""),
	}
	done := make([]atomic.Int64, 3) // how many messages of each publisher were answered
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var publishing sync.WaitGroup
	for i := range done {
		publishing.Go(func() {
			for n := int64(1); ctx.Err() == nil; n++ {
				if _, err := hub.Publish(context.Background(), "sea", [2]int64{int64(i), n}); err != nil {
					t.Error(err)
					return
				}
				done[i].Store(n)
				if _, err := hub.Publish(context.Background(), "noise", n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var joining sync.WaitGroup
	for name, l := range streams {
		joining.Go(func() {
			for round := range 20 {
				if wrong := joinAndLeave(l, name, done, round); wrong != "" {
					t.Errorf("%s, round %d: %s", name, round, wrong)
					return
				}
			}
		})
	}
	joining.Wait()
	stop()
	publishing.Wait()
}

// joinAndLeave returns what is wrong with what comes meanwhile.
func joinAndLeave(l *ear, group string, done []atomic.Int64, round int) string {
	l.own(204, "PUT", "/groups/sea/%23", "")
	from := counts(done)
	for { // so that something is published
		if now := counts(done); now[0] > from[0]+int64(round) {
			break
		}
	}
	to := counts(done)
	l.own(204, "DELETE", "/groups/sea/%23", "")
	after := counts(done)
	marker := fmt.Sprintf(`"marker %d"`, round)
	l.wants(201, "POST /v1/groups/"+group, marker, "Content-Type", "application/json")
	last := make([]int64, len(done))
	for first := true; ; {
		switch m := l.message(); {
		case m.Group == "noise":
		case first:
			if !m.Retained || string(m.Msg) != `"calm"` {
				return fmt.Sprintf("the retained message does not come first but %+v", m)
			}
			first = false
		case string(m.Msg) == marker:
			for i := range last {
				if to[i] > from[i]+1 && last[i] < to[i] { // the first may have been under way before the PUT
					return fmt.Sprintf("publisher %d's message %d was answered before the DELETE, the last that came is %d", i, to[i], last[i])
				}
			}
			return ""
		default:
			var msg [2]int64
			if err := json.Unmarshal(m.Msg, &msg); err != nil || m.Retained {
				return fmt.Sprintf("%+v", m)
			}
			i, n := msg[0], msg[1]
			if last[i] == 0 && n <= from[i]+2 || n == last[i]+1 && n <= after[i]+1 { // one was under way
				last[i] = n
				continue
			}
			return fmt.Sprintf("publisher %d's message %d comes behind %d; the PUT was answered at %d, the DELETE at %d", i, n, last[i], from[i], after[i])
		}
	}
}

func counts(done []atomic.Int64) []int64 {
	list := make([]int64, len(done))
	for i := range done {
		list[i] = done[i].Load()
	}
	return list
}

func TestDirectMessagesAreReadByTheirSessionAlone(t *testing.T) {
	hub, addr := serve(t)
	p := at(t, addr)
	a := p.listen("/v1/groups/mine", "")
	var others []*ear
	for _, target := range []string{
		"/v1/groups/%23", "/v1/groups/%2B/%2B", "/v1/groups/%2B/" + a.uid, "/v1/groups/%2B/%23",
		"/v1/groups/$presence/%23", "/v1/groups/$sys/%23", "/v1/events?group=%23&group=$presence/%23", "/v1/groups/mine",
	} {
		others = append(others, p.listen(target, ""))
	}
	for range 3 {
		if _, err := hub.Send(t.Context(), a.uid, "for you alone"); err != nil {
			t.Fatal(err)
		}
	}
	a.gets(`"for you alone"`, `"for you alone"`, `"for you alone"`)
	own := "$session/" + a.uid
	for _, f := range []string{own, "$session", "$session/%23", "$session/%2B", "%24session%2F" + a.uid, own + "/%23", "$session/%2B/%23"} {
		p.refused(403, "filter-forbidden", "GET /v1/groups/"+f, "")
		p.refused(403, "filter-forbidden", "GET /v1/groups/"+f, "", a.proof()...)
		p.wants(403, "HEAD /v1/groups/"+f, "")
		p.refused(403, "filter-forbidden", "GET /v1/events?group=mine&group="+f, "")
		p.refused(403, "filter-forbidden", "GET /v1/history/"+f, "")
		p.refused(403, "filter-forbidden", "GET /v1/history/"+f+"?since=all", "", "Accept", "application/x-ndjson")
		others[0].own(403, "PUT", "/groups/"+f, "")
		p.refused(403, "filter-forbidden", "GET /v1/groups?filter="+f, "")
	}
	p.refused(400, "group-invalid", "POST /v1/groups/"+own, "forged")
	p.refused(403, "filter-forbidden", "DELETE /v1/groups/"+own, "")
	for _, call := range []string{
		"GET /v1/history/%23", "GET /v1/history/%2B/" + a.uid, "GET /v1/groups", "GET /v1/presence/%23",
		"GET /v1/groups?filter=%2B/%2B", "GET /v1/history/$presence/%23", "GET /v1/sessions",
	} {
		if answer := p.wants(200, call, ""); strings.Contains(answer, "$session") || strings.Contains(answer, "for you") {
			t.Errorf("%s: %s", call, answer)
		}
	}
	p.wants(201, "POST /v1/groups/mine", `"marker"`, "Content-Type", "application/json")
	for _, l := range others {
		l.own(204, "PUT", "/groups/mine", "")
		p.wants(201, "POST /v1/groups/mine", `"end"`, "Content-Type", "application/json")
		for m := (message{}); string(m.Msg) != `"end"`; {
			if m = l.message(); strings.HasPrefix(m.Group, "$session") || strings.Contains(string(m.Msg), "for you") {
				t.Errorf("somebody else got %+v", m)
			}
		}
	}
}

func TestWhatIsSentToALostSessionAwaitsItsReturn(t *testing.T) {
	h, addr := serve(t, watchbox.WithSessionTimeout(time.Minute))
	p := at(t, addr)
	heard := newEvents(t)
	heard.hear(h)
	send := func(uid, text string) string {
		t.Helper()
		id, err := h.Send(t.Context(), uid, text)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	publish := func(text string) {
		t.Helper()
		if _, err := h.Publish(t.Context(), "foo", text); err != nil {
			t.Fatal(err)
		}
	}
	for query, want := range map[string][]string{
		"":           {`"missed 1"`, `"missed 2"`, `"new"`},
		"?last=1":    {`"missed 1"`, `"missed 2"`, `"meanwhile 2"`, `"new"`},
		"?since=1ms": nil, // whatever is as new as that
		"?since=all": {`"got"`, `"before"`, `"missed 1"`, `"meanwhile 1"`, `"missed 2"`, `"meanwhile 2"`, `"new"`},
		"resume":     {`"before"`, `"missed 1"`, `"meanwhile 1"`, `"missed 2"`, `"meanwhile 2"`, `"new"`},
	} {
		t.Run(query, func(t *testing.T) {
			p.wants(204, "DELETE /v1/groups/foo", "")
			l := p.listen("/v1/groups/foo", "")
			got := send(l.uid, "got")
			publish("before")
			l.gets(`"got"`, `"before"`)
			l.cut()
			lost(p, l.uid)
			send(l.uid, "missed 1")
			publish("meanwhile 1")
			send(l.uid, "missed 2")
			publish("meanwhile 2")
			var back *ear
			if query == "resume" {
				back = p.listen("/v1/groups/foo", l.secret, "Last-Event-ID", got)
			} else {
				back = p.listen("/v1/groups/foo"+query, l.secret)
			}
			publish("new")
			if query == "?since=1ms" {
				texts := []string{}
				for m := (message{}); string(m.Msg) != `"new"`; texts = append(texts, string(m.Msg)) {
					m = back.message()
				}
				// What it had been sent is there only if all that came later is as new, too.
				old := slices.Contains(texts, `"got"`) && !slices.Contains(texts, `"before"`)
				if !slices.Contains(texts, `"missed 1"`) || !slices.Contains(texts, `"missed 2"`) || old {
					t.Errorf("%s", texts)
				}
				return
			}
			back.gets(want...)
			// Nothing is owed any more.
			tab := p.listen("/v1/groups/foo", l.secret)
			publish("last")
			tab.gets(`"last"`)
			back.gets(`"last"`)
			back.cut()
			tab.cut()
			lost(p, l.uid)
			back = p.listen("/v1/groups/foo", l.secret)
			publish("really the last")
			back.gets(`"really the last"`)
			p.wants(204, "DELETE /v1/sessions/"+l.uid, "", l.proof()...)
			if _, err := h.Send(t.Context(), l.uid, "too late"); !errors.Is(err, watchbox.ErrNoSession) {
				t.Error(err)
			}
			again := p.listen("/v1/groups/foo?since=all", l.secret)
			if m := again.message(); strings.HasPrefix(m.Group, "$session") {
				t.Errorf("a session got what was sent to the one before: %+v", m)
			}
		})
	}
}

// lost waits until a session is.
func lost(p *place, uid string) {
	p.Helper()
	eventually(p.T, "the session is lost", func() bool {
		return strings.Contains(p.wants(200, "GET /v1/sessions/"+uid, ""), `"state":"lost"`)
	})
}

// eventually asks until it is so, or fails the test.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func TestStatsAreSentWhileSomebodyListens(t *testing.T) {
	h, addr := serve(t)
	p := at(t, addr)
	held := func() int {
		t.Helper()
		return strings.Count(p.wants(200, "GET /v1/history/$sys/stats", ""), `"watchbox_streams"`)
	}
	begin := time.Now()
	l := p.listen("/v1/groups/$sys/%23", "")
	if _, err := h.Publish(t.Context(), "foo", "bar"); err != nil {
		t.Fatal(err)
	}
	l.message()
	var figures map[string]float64
	for figures["watchbox_messages_published_total"] == 0 { // the first may be older than the POST
		if err := json.Unmarshal(l.message().Msg, &figures); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took < 1500*time.Millisecond {
		t.Errorf("the second came after %v", took)
	}
	if figures["watchbox_messages_published_total"] != 1 || figures["watchbox_streams"] != 1 || figures["watchbox_sessions"] != 1 {
		t.Errorf("%v", figures)
	}
	names := map[string]bool{}
	for line := range strings.Lines(p.wants(200, "GET /metrics", "")) {
		if strings.HasPrefix(line, "watchbox_") {
			name, _, _ := strings.Cut(line, " ")
			names[name] = true
		}
	}
	for name := range figures {
		if !names[name] {
			t.Errorf("/metrics has no %s", name)
		}
	}
	if len(names) != len(figures) {
		t.Errorf("/metrics has %d figures, $sys/stats %d", len(names), len(figures))
	}
	l.own(204, "DELETE", "/groups/$sys/%23", "")
	n := held()
	tick := time.NewTicker(1200 * time.Millisecond)
	defer tick.Stop()
	<-tick.C
	<-tick.C
	if now := held(); now > n+1 || n == 0 {
		t.Errorf("nobody listens, and from %d they have become %d", n, now)
	}
	l.own(204, "PUT", "/groups/$sys/stats", "")
	if m := l.message(); m.Group != "$sys/stats" {
		t.Errorf("%+v", m)
	}
}

func TestTheLongestFilterHasPresence(t *testing.T) {
	_, addr := serve(t)
	p := at(t, addr)
	all := p.listen("/v1/groups/$presence/%23", "")
	for _, name := range []string{strings.Repeat("x", 255), strings.Repeat("x/", 15) + "x"} {
		p.listen("/v1/groups/"+name, "")
		if m := all.message(); m.Group != "$presence/"+name {
			t.Errorf("%+v", m)
		}
	}
}

// TestAKilledClientHasClosed has the kernel of a client that was killed say so.
func TestAKilledClientHasClosed(t *testing.T) {
	h, addr := serve(t, watchbox.WithSessionTimeout(100*time.Millisecond))
	heard := newEvents(t)
	heard.hear(h)
	uid := make(chan string, 1)
	h.OnConnect(func(s watchbox.Session) { uid <- s.UID })
	cmd := exec.Command("curl", "-sN", "http://"+addr+"/v1/groups/foo")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	who := <-uid
	heard.are(who, "connect, join foo")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	heard.are(who, "connect, join foo, disconnect closed")
}

// TestASilentClientHasMissedItsHeartbeats has the program hear why one is gone that promised signs of
// life and gives none, though its connection stands.
func TestASilentClientHasMissedItsHeartbeats(t *testing.T) {
	h, addr := serve(t, watchbox.WithSessionTimeout(100*time.Millisecond))
	heard := newEvents(t)
	heard.hear(h)
	l := at(t, addr).listen("/v1/groups/foo?heartbeat=100ms", "")
	heard.are(l.uid, "connect, join foo, disconnect heartbeat")
}
