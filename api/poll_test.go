package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// poll is a long poll that waits.
type poll struct {
	s      *server
	call   string
	cancel context.CancelFunc
	answer chan answer // closed without one if the poll was canceled
}

// poll starts a long poll, and returns when it waits.
func (s *server) poll(target string, header ...string) *poll {
	s.Helper()
	before := s.figure("streams_opened_total")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p := &poll{s, "GET " + target, cancel, make(chan answer, 1)}
	s.Cleanup(cancel)
	go func() {
		defer close(p.answer)
		r := s.request(p.call, "", header...)
		resp, err := s.client.Do(r.WithContext(ctx))
		if err != nil {
			return
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return
		}
		theContract.check(s, s.unmounted(r), nil, resp.StatusCode, resp.Header, body)
		p.answer <- answer{resp.StatusCode, resp.Header, string(body)}
	}()
	eventually(s, target+" waits", func() bool { return s.figure("streams_opened_total") > before })
	return p
}

// wants waits for the answer.
func (p *poll) wants(status int, code string) answer {
	p.s.Helper()
	a, ok := <-p.answer
	if !ok || a.status != status || a.code() != code {
		p.s.Fatalf("%s: %d %s, want %d %s", p.call, a.status, a.body, status, code)
	}
	return a
}

// gets waits for an answer with these messages, and returns it.
func (p *poll) gets(msgs string) (h historyAnswer) {
	p.s.Helper()
	p.wants(200, "").decode(p.s, &h)
	if h.bodies() != msgs {
		p.s.Fatalf("%s: %s, want %s", p.call, h.bodies(), msgs)
	}
	return h
}

// inPolls calls f with both forms of the call: with one filter, and with several.
func inPolls(t *testing.T, s *server, f func(s *server, target string)) {
	for _, target := range []string{"/v1/history/foo?", "/v1/history?group=foo&group=bar/%23&"} {
		t.Run(target, func(t *testing.T) { f(s.in(t), target) })
	}
}

// as returns the header with a session's secret.
func as(name string) []string { return []string{"Watchbox-Session", secretOf(name)} }

func TestPollAnswersAtOnceWithWhatIsBehindTheID(t *testing.T) {
	inPolls(t, serve(t), func(s *server, target string) {
		first := s.post("/v1/groups/foo", "1")
		second := s.post("/v1/groups/foo", "2")
		third := s.post("/v1/groups/foo", "3")
		p := s.poll(target + "wait=1m&since=" + first.ID)
		if h := p.gets(`"2" "3"`); !s.reaches(h.Next, third.ID) {
			t.Errorf("next is %q", h.Next)
		}
		p = s.poll(target + "wait=1m&limit=1&since=" + first.ID)
		if h := p.gets(`"2"`); h.Next != second.ID {
			t.Errorf("with a limit, next is %q", h.Next)
		}
		s.poll(target + "wait=1m&last=1").gets(`"3"`)
	})
}

func TestWaitingPollAnswersWithTheFirstMessage(t *testing.T) {
	inPolls(t, serve(t), func(s *server, target string) {
		at := s.post("/v1/groups/other", "x").ID
		p := s.poll(target + "wait=1m&since=" + at)
		s.post("/v1/groups/other", "x")
		id := s.post("/v1/groups/foo", "1").ID
		h := p.gets(`"1"`)
		if !s.reaches(h.Next, id) || h.Messages[0].ID != id {
			t.Errorf("%+v, want next %s", h, id)
		}
	})
}

func TestPollThatGetsNothingMovesOn(t *testing.T) {
	inPolls(t, serve(t), func(s *server, target string) {
		at := s.post("/v1/groups/other", "x").ID
		for _, wait := range []string{"0s", "100ms"} {
			quiet := s.post("/v1/groups/other", "x").ID
			if h := s.poll(target + "wait=" + wait + "&since=" + at).gets(""); !s.reaches(h.Next, quiet) || len(h.Gaps) > 0 {
				t.Errorf("wait=%s: %+v, want next %s", wait, h, quiet)
			}
		}
		for wait := 1; ; wait *= 2 { // on a slow machine, the poll may end before the message is published
			p := s.poll(fmt.Sprintf("%swait=%ds&since=%s", target, wait, at))
			moved := s.post("/v1/groups/other", "x").ID
			h := p.gets("")
			if s.reaches(h.Next, moved) {
				return
			}
			if wait > 30 {
				t.Fatalf("next is %s, want %s", h.Next, moved)
			}
		}
	})
}

// TestPollsLoseAndRepeatNothing polls with one and the same session while another client publishes as fast as it can.
func TestPollsLoseAndRepeatNothing(t *testing.T) {
	s := serve(t, watchbox.WithMaxMessages(10_000))
	const n = 1000
	next := s.history("x?wait=0s&last=0").Next
	done := make(chan bool)
	go func() {
		defer close(done)
		for i := range n {
			s.post(fmt.Sprintf("/v1/groups/g/%d", i%3), fmt.Sprint(i))
		}
	}()
	var got []string
	for len(got) < n {
		var h historyAnswer
		s.wants(200, "", "GET /v1/history?group=g/%2B&group=g/1&wait=1m&since="+next, "", as("poller")...).decode(t, &h)
		for _, m := range h.Messages {
			got = append(got, string(m.Msg))
		}
		if len(h.Gaps) > 0 {
			t.Fatal(h.Gaps)
		}
		next = h.Next
	}
	<-done
	for i, m := range got {
		if m != fmt.Sprintf(`"%d"`, i) {
			t.Fatalf("message %d is %s", i, m)
		}
	}
}

func TestPollReportsAGapAsAMember(t *testing.T) {
	inPolls(t, serve(t, watchbox.WithMaxMessages(2)), func(s *server, target string) {
		seen := s.post("/v1/groups/foo", "0").ID
		for i := range 3 {
			s.post("/v1/groups/foo", fmt.Sprint(i))
		}
		for since, reason := range map[string]string{seen: "evicted", "zzzzzz-9": "epoch"} {
			h := s.poll(target + "wait=1m&since=" + since).gets(`"1" "2"`)
			if h.Gap.Reason != reason || h.Gap.Filter != "foo" || h.Gap.After != since || h.Gap != h.Gaps[0] || !s.reaches(h.Next, h.Messages[1].ID) {
				t.Errorf("since=%s: %+v", since, h)
			}
		}
		if h := s.poll(target + "wait=0s&since=all").gets(`"1" "2"`); len(h.Gaps) > 0 {
			t.Errorf("since=all: %+v", h.Gaps)
		}
		s.wants(204, "", "DELETE /v1/groups/foo", "")
	})
}

func TestPollStartsWithRetainedMessages(t *testing.T) {
	inPolls(t, serve(t), func(s *server, target string) {
		s.post("/v1/groups/foo", "old")
		r := s.post("/v1/groups/foo?retain=true", "kept")
		now := s.post("/v1/groups/foo", "new").ID
		h := s.poll(target + "wait=1m&last=0&retained=true").gets(`"kept"`)
		if h.Messages[0].ID != r.ID || !h.Messages[0].Retained || !s.reaches(h.Next, now) {
			t.Errorf("%+v", h)
		}
		p := s.poll(target+"wait=1m&since="+h.Next, as("x")...)
		s.post("/v1/groups/foo", "live")
		p.gets(`"live"`)
		s.wants(204, "", "DELETE /v1/groups/foo", "")
		s.wants(204, "", "DELETE /v1/sessions/"+session.UID(secretOf("x")), "", as("x")...)
	})
}

func TestPollAsNDJSONEndsWithThePosition(t *testing.T) {
	s := serve(t)
	at := s.post("/v1/groups/foo", "1").ID
	a := s.wants(200, "", "GET /v1/history/foo?wait=0s", "", append(as("x"), "Accept", "application/x-ndjson")...)
	lines := strings.Split(strings.TrimSpace(a.body), "\n")
	var last struct{ Next, UID string }
	err := json.Unmarshal([]byte(lines[len(lines)-1]), &last)
	if err != nil || len(lines) != 2 || last.UID != session.UID(secretOf("x")) || !s.after(last.Next, at) {
		t.Errorf("%v: %q, want two lines, the last with a position after %s", err, lines, at)
	}
	for _, line := range lines {
		if err := theContract.fits("HistoryLine", []byte(line)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// after reports whether an id is after another one of the same epoch.
func (s *server) after(id, other string) bool {
	s.Helper()
	a, err := store.ParseID(id)
	b, wrong := store.ParseID(other)
	return err == nil && wrong == nil && a.Epoch == b.Epoch && a.Seq > b.Seq
}

// reaches reports whether an id is another one or after it: the hub's own messages, such as its statistics, count.
func (s *server) reaches(id, other string) bool { return id == other || s.after(id, other) }

// presence returns the presence messages of a filter in one string, such as "join lost back".
func (s *server) presence(filter string) string {
	s.Helper()
	var events []string
	for _, m := range s.history("$presence/" + filter).Messages {
		var e struct{ Event string }
		if err := json.Unmarshal(m.Msg, &e); err != nil {
			s.Fatal(err)
		}
		events = append(events, e.Event)
	}
	return strings.Join(events, " ")
}

func TestSessionThatPollsStaysPresent(t *testing.T) {
	inPolls(t, serve(t), func(s *server, target string) {
		name := url.QueryEscape(target)
		uid := session.UID(secretOf(name))
		for range 3 {
			var h historyAnswer
			s.wants(200, "", "GET "+target+"wait=0s", "", as(name)...).decode(t, &h)
			if h.UID != uid {
				t.Fatalf("the session is %s, want %s", h.UID, uid)
			}
			var p struct{ Presence []struct{ UID string } }
			s.wants(200, "", "GET /v1/presence/foo", "").decode(t, &p)
			if len(p.Presence) != 1 || p.Presence[0].UID != uid {
				t.Fatalf("present: %+v", p)
			}
			if list := s.wants(200, "", "GET /v1/sessions?sort=lag&limit=10", "").body; !strings.Contains(list, `"state":"here"`) || strings.Contains(list, "disconnects") {
				t.Fatalf("sessions: %s", list)
			}
		}
		p := s.poll(target+"wait=1m&last=0", as(name)...)
		p.cancel() // the client gives up, and polls again
		for range p.answer {
		}
		s.poll(target+"wait=0s", as(name)...).gets("")
		if got := s.presence("foo"); got != "join" && !strings.HasSuffix(got, "gone join") {
			t.Errorf("presence of foo: %s", got)
		}
		s.wants(204, "", "DELETE /v1/sessions/"+uid, "", as(name)...)
	})
}

func TestSessionThatStopsPollingIsLostAndGone(t *testing.T) {
	s := serve(t, watchbox.WithSessionTimeout(100*time.Millisecond))
	s.wants(200, "", "GET /v1/history/foo?wait=0s", "", as("x")...)
	eventually(t, "the session is gone", func() bool { return strings.HasSuffix(s.presence("foo"), "gone") })
	if got := s.presence("foo"); got != "join lost gone" {
		t.Errorf("presence: %s", got)
	}
	eventually(t, "its place is free", func() bool { return s.figure("streams") == 0 })
}

func TestPollWithoutASecretBelongsToNoSession(t *testing.T) {
	s := serve(t)
	if h := s.history("foo?wait=0s"); h.UID != "" {
		t.Errorf("the answer has the uid %s", h.UID)
	}
	if list := s.wants(200, "", "GET /v1/sessions", "").body; strings.Contains(list, "uid") || s.presence("foo") != "" {
		t.Errorf("sessions: %s", list)
	}
}

func TestPollGetsTheMessagesToItsSession(t *testing.T) {
	inPolls(t, serve(t), func(s *server, target string) {
		uid := session.UID(secretOf("x"))
		var h historyAnswer
		s.wants(200, "", "GET "+target+"wait=0s&last=0", "", as("x")...).decode(t, &h)
		s.post("/v1/sessions/"+uid, "between")
		h = s.poll(target+"wait=1m&since="+h.Next, as("x")...).gets(`"between"`)
		p := s.poll(target+"wait=1m&since="+h.Next, as("x")...)
		other := s.poll(target+"wait=1s&since="+h.Next, as("y")...)
		s.post("/v1/sessions/"+uid, "while it waits")
		p.gets(`"while it waits"`)
		other.gets("")
		s.wants(204, "", "DELETE /v1/sessions/"+uid, "", as("x")...)
	})
}

func TestPollWithoutEcho(t *testing.T) {
	s := serve(t)
	p := s.poll("/v1/history/foo?wait=1m&last=0&echo=false", as("x")...)
	s.post("/v1/groups/foo", "own", as("x")...)
	s.post("/v1/groups/foo", "other", as("y")...)
	h := p.gets(`"other"`)
	s.post("/v1/groups/foo", "own", as("x")...)
	s.poll("/v1/history/foo?wait=0s&echo=false&since="+h.Next, as("x")...).gets("")
}

func TestPollsCountAsStreams(t *testing.T) {
	s := serve(t, watchbox.WithMaxStreams(1), watchbox.WithMaxStreamsPerClient(1))
	p := s.poll("/v1/history/foo?wait=1m&last=0")
	for _, call := range []string{"GET /v1/history/foo?wait=0s", "GET /v1/history?group=foo&wait=0s", "GET /v1/groups/foo"} {
		s.wants(503, "too-many-streams", call, "")
	}
	p.cancel()
	for range p.answer {
	}
	eventually(t, "the poll ends with its client", func() bool { return s.figure("streams") == 0 })
	for _, groups := range []string{"foo", "foo&group=bar", "bar"} { // the session's own place between its polls
		s.wants(200, "", "GET /v1/history?wait=0s&group="+groups, "", as("x")...)
	}
	s.wants(503, "too-many-streams", "GET /v1/history/foo?wait=0s", "", as("y")...)
	s.wants(204, "", "DELETE /v1/sessions/"+session.UID(secretOf("x")), "", as("x")...)
	eventually(t, "the place of the ended session is free", func() bool { return s.figure("streams") == 0 })
	s.wants(200, "", "GET /v1/history/foo?wait=0s", "", as("y")...)
	s.wants(200, "", "GET /v1/history/foo", "") // without wait it is no poll

	client := serve(t, watchbox.WithMaxStreamsPerClient(1))
	client.poll("/v1/history/foo?wait=1m&last=0")
	for _, call := range []string{"GET /v1/history/foo?wait=0s", "GET /v1/history?group=foo&wait=0s"} {
		client.wants(429, "too-many-client-streams", call, "")
	}
}

func TestPollEndsWithItsSession(t *testing.T) {
	inPolls(t, serve(t), func(s *server, target string) {
		uid := session.UID(secretOf("x"))
		p := s.poll(target+"wait=1m&last=0", as("x")...)
		s.wants(204, "", "DELETE /v1/sessions/"+uid, "", as("x")...) // its own wish; the next test kicks
		p.wants(410, "session-ended")
		s.wants(404, "session-unknown", "GET /v1/sessions/"+uid, "")
	})
}

// TestKickOfASessionThatPollsEndsAllItsLaterRequests: the client may not have got the answer to the first of them.
func TestKickOfASessionThatPollsEndsAllItsLaterRequests(t *testing.T) {
	all := serve(t, watchbox.WithSessionTimeout(10*time.Minute))
	kicked := 0
	inPolls(t, all, func(s *server, target string) {
		for _, waits := range []bool{false, true} {
			kicked++
			name := fmt.Sprint("kicked", kicked)
			uid := session.UID(secretOf(name))
			poll := func(status int, code string) {
				t.Helper()
				s.wants(status, code, "GET "+target+"wait=0s&last=0", "", as(name)...)
			}
			poll(200, "")
			s.wants(204, "", "DELETE /v1/sessions/"+uid, "", as(name)...) // its own wish
			poll(200, "")
			if waits {
				p := s.poll(target+"wait=1m&last=0", as(name)...)
				s.wants(204, "", "DELETE /v1/sessions/"+uid, "") // a kick
				p.wants(410, "session-ended")
			} else {
				s.wants(204, "", "DELETE /v1/sessions/"+uid, "")
			}
			for range 2 {
				poll(410, "session-ended")
				s.wants(410, "session-ended", "GET /v1/history/other?wait=0s&last=0", "", as(name)...) // as a poll that adds a filter
				for _, call := range [][2]string{{"GET /v1/groups/bar"}, {"GET /v1/events?group=bar"}, {"POST /v1/events", "group=bar"}} {
					stream := s.openBy(call[0], call[1], append(as(name), "Content-Type", "application/x-www-form-urlencoded")...)
					s.begin(stream).gets("event: bye\ndata: {\"reason\":\"kicked\"}\n\n")
				}
				s.wants(404, "session-unknown", "GET /v1/sessions/"+uid, "")
			}
		}
	})
	eventually(t, "no place is taken", func() bool { return all.figure("streams") == 0 })
}

// TestKickIsForgotten: a client that asks again after the session timeout begins a new session.
func TestKickIsForgotten(t *testing.T) {
	s := serve(t, watchbox.WithSessionTimeout(100*time.Millisecond))
	uid := session.UID(secretOf("kicked"))
	p := s.poll("/v1/history/foo?wait=1m&last=0", as("kicked")...)
	s.wants(204, "", "DELETE /v1/sessions/"+uid, "")
	p.wants(410, "session-ended")
	eventually(t, "a new session", func() bool {
		return s.do("GET /v1/history/foo?wait=0s&last=0", "", as("kicked")...).status == 200
	})
}

func TestPollEndsWithTheHub(t *testing.T) {
	for _, target := range []string{"/v1/history/foo?", "/v1/history?group=foo&"} {
		s := serve(t)
		one, two := s.poll(target+"wait=1m&last=0"), s.poll(target+"wait=1m&last=0", as("x")...)
		if err := s.end(); err != nil {
			t.Error(err)
		}
		for _, p := range []*poll{one, two} {
			if a := p.wants(503, "shutting-down"); a.header.Get("Retry-After") != "1" {
				t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
			}
		}
	}
}

func TestFiltersOfAPollAreThoseItNames(t *testing.T) {
	s := serve(t)
	path := "/v1/sessions/" + session.UID(secretOf("x")) + "/groups/"
	p := s.poll("/v1/history?group=foo&group=bar&wait=1m&last=0", as("x")...)
	s.wants(409, "no-stream", "PUT "+path+"more", "", as("x")...)
	s.wants(204, "", "DELETE "+path+"bar", "", as("x")...)
	next := p.gets("").Next // it ends, so that the next one can leave the filter out
	if got := s.presence("bar"); got != "join leave" {
		t.Errorf("presence of bar: %s", got)
	}
	p = s.poll("/v1/history?group=foo&wait=1m&since="+next, as("x")...)
	s.post("/v1/groups/foo", "1")
	p.gets(`"1"`)
	s.wants(204, "", "DELETE "+path+"foo", "", as("x")...)
	if got := s.presence("foo"); got != "join leave" {
		t.Errorf("presence of foo: %s", got)
	}
}

func TestPollChecksTheTokenBeforeItAnswers(t *testing.T) {
	s := serveGuarded(t)
	for _, header := range [][]string{nil, as("x")} { // without a session, and with one
		jti := fmt.Sprint("jti", len(header))
		token := s.token("anna", subscribe("foo"), func(c jwt.MapClaims) { c["jti"] = jti })
		waiting := make(chan answer, 1)
		before := s.opened(t)
		go func() {
			waiting <- s.do("GET /v1/history/foo?wait=1m&last=0", "", append(header, token...)...)
		}()
		eventually(t, "the poll waits", func() bool { return s.opened(t) > before })
		s.wants(204, "", "POST /v1/revocations", `{"jti":"`+jti+`"}`, s.token("root", administration)...)
		s.wants(201, "", "POST /v1/groups/foo", "secret", s.token("publisher", publish("foo"))...)
		if a := <-waiting; a.status != 401 || a.code() != "token-revoked" {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	soon := s.token("anna", subscribe("foo"), func(c jwt.MapClaims) { c["exp"] = time.Now().Unix() + 2 })
	if a := s.do("GET /v1/history/foo?wait=1m&last=0", "", soon...); a.status != 401 || a.code() != "token-expired" {
		t.Errorf("a token that expires: %d %s", a.status, a.body)
	}
}

// opened returns how many streams and polls the hub has accepted.
func (s *guardedServer) opened(t *testing.T) int64 {
	t.Helper()
	var n int64
	body := s.in(t).wants(200, "", "GET /metrics", "", s.token("root", administration)...).body
	_, rest, _ := strings.Cut(withoutHub(body), "\nwatchbox_streams_opened_total ")
	_, _ = fmt.Sscan(rest, &n)
	return n
}

func TestInvalidPollsAreRefused(t *testing.T) {
	inPolls(t, serve(t), func(s *server, target string) {
		for query, code := range map[string]string{
			"wait=": "parameter-invalid", "wait=30": "parameter-invalid", "wait=-1s": "parameter-invalid", "wait=6m": "parameter-invalid",
			"wait=1s&wait=1s": "parameter-invalid", "wait=1s&retained=yes": "parameter-invalid", "wait=1s&since=yesterday": "parameter-invalid",
			"retained=true": "parameter-unknown", "echo=false": "parameter-unknown", "session=" + secretOf("x"): "parameter-unknown",
			"wait=1s&format=raw": "parameter-unknown", "wait=1s&session=short": "session-invalid",
		} {
			s.wants(400, code, "GET "+target+query, "")
		}
		s.wants(406, "not-acceptable", "GET "+target+"wait=1m&last=0", "", "Accept", "text/event-stream")
		if a := s.wants(200, "", "HEAD "+target+"wait=1m&last=0", "", as("head")...); a.header.Get("Content-Type") != "application/json" {
			t.Errorf("HEAD: %v", a.header)
		}
		for i := range 16 { // the session has as many filters as it may
			query := "GET /v1/history?wait=0s"
			for k := range 64 {
				query += fmt.Sprintf("&group=%d/%d", i, k)
			}
			s.wants(200, "", query, "", as("many")...)
		}
		s.wants(400, "too-many-filters", "GET "+target+"wait=0s", "", as("many")...)
	})
	s := serve(t, watchbox.WithMaxStreams(1))
	for range 100 {
		st := s.listen("/v1/groups/foo")
		_ = st.Close()
		eventually(t, "the stream closes", func() bool { return s.figure("streams") == 0 })
	}
	inPolls(t, s, func(s *server, target string) {
		s.wants(503, "too-many-sessions", "GET "+target+"wait=0s", "", as("new")...)
	})
	for _, call := range []string{"GET /v1/history", "GET /v1/history?wait=1s", "GET /v1/history?group="} {
		s.do(call, "")
	}
	s.wants(400, "filter-invalid", "GET /v1/history?group=a//b", "")
	s.wants(400, "parameter-invalid", "GET /v1/history", "")
	s.wants(400, "parameter-unknown", "GET /v1/history?group=a&stream=b", "")
	s.wants(403, "filter-forbidden", "GET /v1/history?group=$session/x", "")
}
