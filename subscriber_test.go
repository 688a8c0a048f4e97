package watchbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/sse"
)

// place is the address of a hub and a client for it.
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

// try makes a call such as "POST /v1/groups/foo", with the names and values of header fields.
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

// wants is like do, and fails unless the answer has the status.
func (p *place) wants(status int, call, body string, header ...string) string {
	p.Helper()
	got, answer := p.do(call, body, header...)
	if got != status {
		p.Errorf("%s: %d, want %d: %s", call, got, status, answer)
	}
	return answer
}

// refused is like do, and fails unless the answer is a problem with the status and code.
func (p *place) refused(status int, code, call, body string, header ...string) {
	p.Helper()
	if answer := p.wants(status, call, body, header...); !strings.Contains(answer, `"code":"`+code+`"`) {
		p.Errorf("%s: want %s: %s", call, code, answer)
	}
}

// subscriber is a client with one stream.
type subscriber struct {
	*place
	uid, secret string
	cut         func() // closes the connection
	events      chan sse.Event
}

// listen opens a stream and waits for its session event. A secret may be given.
func (p *place) listen(target, secret string, header ...string) *subscriber {
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
	l := &subscriber{place: p, cut: cut, secret: secret, events: make(chan sse.Event, 1<<16)}
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
		p.Fatalf("the first event is %s: %s", ev.Type, ev.Data)
	}
	l.uid = hello.UID
	if secret == "" {
		l.secret = hello.Secret
	}
	return l
}

// next returns the next event.
func (l *subscriber) next() sse.Event {
	l.Helper()
	select {
	case ev, ok := <-l.events:
		if !ok {
			l.Fatal("the stream has ended")
		}
		return ev
	case <-time.After(patience):
		l.Fatal("timed out waiting for an event")
	}
	panic("unreachable")
}

// ended fails unless the stream ends without another event.
func (l *subscriber) ended() {
	l.Helper()
	select {
	case ev, more := <-l.events:
		if more {
			l.Errorf("another event arrived: %s %s", ev.Type, ev.Data)
		}
	case <-time.After(patience):
		l.Error("the stream does not end")
	}
}

// message is a message that a subscriber receives.
type message struct {
	ID, Group, UID, Event string
	Msg                   json.RawMessage
	Retained              bool
}

func (l *subscriber) message() (m message) {
	l.Helper()
	ev := l.next()
	if err := json.Unmarshal(ev.Data, &m); err != nil || m.Group == "" {
		l.Fatalf("%s %s is not a message", ev.Type, ev.Data)
	}
	return m
}

// gets fails unless the next messages have these payloads.
func (l *subscriber) gets(want ...string) {
	l.Helper()
	for _, w := range want {
		if m := l.message(); string(m.Msg) != w {
			l.Fatalf("got %s, want %s", m.Msg, w)
		}
	}
}

// proof returns the header that proves the session.
func (l *subscriber) proof() []string { return []string{"Watchbox-Session", l.secret} }

// own makes a call to the subscriber's own session.
func (l *subscriber) own(status int, method, path, body string, header ...string) {
	l.Helper()
	l.wants(status, method+" /v1/sessions/"+l.uid+path, body, append(l.proof(), header...)...)
}

// events collects the callbacks of each session.
type events struct {
	*testing.T
	mu   sync.Mutex
	news chan struct{} // closed at the next callback
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

// want waits until the callbacks of a session are exactly want, separated by commas.
func (e *events) want(uid, want string) {
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

// register records the callbacks of a hub.
func (e *events) register(h *watchbox.Hub) {
	h.OnConnect(func(s watchbox.Session) { e.note(s.UID, "connect") })
	h.OnJoin(func(s watchbox.Session, filter string) { e.note(s.UID, "join %s", filter) })
	h.OnLeave(func(s watchbox.Session, filter string) { e.note(s.UID, "leave %s", filter) })
	h.OnMessage(func(m watchbox.Message) { e.note(m.UID, "message %s", m.Text()) })
	h.OnReconnect(func(s watchbox.Session) { e.note(s.UID, "reconnect") })
	h.OnDisconnect(func(s watchbox.Session, why watchbox.Reason) { e.note(s.UID, "disconnect %s", why) })
}
