package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
)

// position returns the id that is n messages after another id.
func position(id string, n int) string {
	epoch, _, _ := strings.Cut(id, "-")
	return fmt.Sprintf("%s-%d", epoch, seq(id)+n)
}

// seq returns the seq of an id.
func seq(id string) (n int) {
	_, number, _ := strings.Cut(id, "-")
	_, _ = fmt.Sscan(number, &n)
	return n
}

func TestStreamMatchesTheWireFormatByteForByte(t *testing.T) {
	s := serve(t)
	before := s.post("/v1/groups/foo", "before")
	const secret = "a-secret-of-the-client"
	st := s.open("/v1/groups/foo", "Watchbox-Session", secret)
	for field, want := range map[string]string{
		"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no",
	} {
		if got := st.header.Get(field); got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	const uid = "4347ce1e-ef2b-84d4-8ffd-935ae735b9b0" // the first bytes of the SHA-256 of the secret (RFC 9562, section 5.8)
	st.gets("retry: 1000\nevent: session\nid: " + before.ID + "\ndata: {\"uid\":\"" + uid + "\",\"heartbeat\":\"15s\"}\n\n")

	r := s.post("/v1/groups/foo", "person joined")
	st.gets(frame(r, "", `"person joined"`))

	r = s.post("/v1/groups/foo?event=alarm", "fire", "Watchbox-Session", secret)
	st.gets("id: " + r.ID + "\nevent: alarm\ndata: {\"id\":\"" + r.ID + "\",\"group\":\"foo\",\"event\":\"alarm\",\"uid\":\"" + uid +
		"\",\"time\":\"" + r.Time + "\",\"msg\":\"fire\"}\n\n")

	r = s.post("/v1/groups/foo", "{\r\n \"a\" :\t[1,\n2],\r\"b\":\"x\\ny\"\n}\n", "Content-Type", "application/json")
	st.gets(frame(r, "", `{"a":[1,2],"b":"x\ny"}`))

	r = s.post("/v1/groups/foo", "\xff\xfe", "Content-Type", "image/png")
	st.gets("id: " + r.ID + "\ndata: {\"id\":\"" + r.ID + "\",\"group\":\"foo\",\"time\":\"" + r.Time +
		"\",\"encoding\":\"base64\",\"msg\":\"//4=\"}\n\n")

	r = s.post("/v1/groups/foo", "one\r\ntwo\rthree\nfour")
	st.gets(frame(r, "", `"one\r\ntwo\rthree\nfour"`))

	r = s.post("/v1/groups/foo", "")
	st.gets(frame(r, "", `""`))

	if err := s.end(); err != nil {
		t.Error(err)
	}
	st.gets("event: bye\ndata: {\"reason\":\"shutdown\"}\n\n")
	st.ended()
}

func TestHeartbeatsCarryThePosition(t *testing.T) {
	s := serve(t, watchbox.WithHeartbeat(100*time.Millisecond))
	st := s.listen("/v1/groups/foo")
	if st.heartbeat != "100ms" {
		t.Errorf("the session event says %q", st.heartbeat)
	}
	r := s.post("/v1/groups/bar", "something else")
	for range 2 {
		eventually(t, "a heartbeat has the position of the last message", func() bool {
			block := st.next()
			_, id, _ := parseBlock(block)
			if block != ":\nid: "+id+"\n\n" {
				t.Fatalf("want a heartbeat, got %q", block)
			}
			return s.reaches(id, r.ID)
		})
	}
}

func TestStreamEndsWhenItsSessionSendsNoHeartbeat(t *testing.T) {
	s := serve(t)
	st := s.listen("/v1/groups/foo?heartbeat=200ms")
	if st.heartbeat != "200ms" {
		t.Errorf("the session event says %q", st.heartbeat)
	}
	if block := st.block(); block != "event: bye\ndata: {\"reason\":\"heartbeat\"}\n\n" {
		t.Errorf("the last block is %q", block)
	}
	st.ended()
}

// TestEveryCallOfASessionIsAHeartbeat repeats with a longer heartbeat if the machine was too slow to send the
// calls in time.
func TestEveryCallOfASessionIsAHeartbeat(t *testing.T) {
	s := serve(t)
	for heartbeat := time.Second; ; heartbeat *= 2 {
		last, pause := time.Now(), time.Duration(0)
		called := func() { pause, last = max(pause, time.Since(last)), time.Now() }
		alive, reads := s.listen("/v1/groups/foo?heartbeat="+heartbeat.String()), s.listen("/v1/groups/foo?heartbeat="+heartbeat.String())
		for begin := time.Now(); time.Since(begin) < 2*heartbeat; called() {
			s.wants(204, "", "POST /v1/sessions/"+alive.uid+"/heartbeat", "", "Watchbox-Session", alive.secret)
			s.wants(200, "", "GET /v1/history/foo", "", "Watchbox-Session", reads.secret)
		}
		r := s.post("/v1/groups/foo", "x", "Watchbox-Session", alive.secret)
		if called(); pause > heartbeat/2 {
			t.Logf("calls were %v apart, too slow for a heartbeat of %v", pause, heartbeat)
			continue
		}
		for _, st := range []*stream{alive, reads} {
			if block := st.block(); !strings.Contains(block, r.ID) {
				t.Errorf("the stream has %q", block)
			}
		}
		return
	}
}

func TestRawStreamHasThePayloadLineByLine(t *testing.T) {
	s := serve(t)
	st := s.listen("/v1/groups/foo?format=raw")
	for _, c := range []struct{ body, media, want string }{
		{"plain", "", "data: plain\n"},
		{"", "", "data: \n"},
		{"a\nb", "", "data: a\ndata: b\n"},
		{"a\rb\r\nc\n", "", "data: a\ndata: b\ndata: c\ndata: \n"},
		{"\n\ndata: x\nid: 1\n\n", "", "data: \ndata: \ndata: data: x\ndata: id: 1\ndata: \ndata: \n"},
		{`"x\ny"`, "application/json", "data: x\ndata: y\n"},
		{"{\"a\":\n1}", "application/json", "data: {\"a\":1}\n"},
		{"\xff", "", "data: /w==\n"},
	} {
		r := s.post("/v1/groups/foo", c.body, "Content-Type", c.media)
		st.gets("id: " + r.ID + "\n" + c.want + "\n")
	}
	r := s.post("/v1/groups/foo?event=alarm", "fire")
	st.gets("id: " + r.ID + "\nevent: alarm\ndata: fire\n\n")
}

func TestRetainedMessagesComeFirstUnlessAStreamResumes(t *testing.T) {
	s := serve(t)
	r := s.post("/v1/groups/a/temp?retain=true", "21", "Content-Type", "application/json")
	e := s.post("/v1/groups/b/temp?retain=true&event=alarm", "hot")
	cleared := s.post("/v1/groups/c/temp?retain=true", "gone")
	s.post("/v1/groups/c/temp?retain=true", "", "Content-Type", "application/json")
	last := s.post("/v1/groups/d/temp", "not retained")
	nextMillisecond(t)

	data := `{"id":"` + r.ID + `","retained":true,"group":"a/temp","time":"` + r.Time + `","retain":true,"msg":21}`
	alarm := `{"id":"` + e.ID + `","retained":true,"group":"b/temp","event":"alarm","time":"` + e.Time + `","retain":true,"msg":"hot"}`
	for _, target := range []string{"/v1/groups/%23", "/v1/events?group=%2B/temp&group=a/%23"} {
		st := s.listen(target)
		if seq(st.id) < seq(last.ID) {
			t.Errorf("%s: the session event has the id %s, want the log's end, %s", target, st.id, last.ID)
		}
		st.gets("data: "+data+"\n\n", "event: alarm\ndata: "+alarm+"\n\n")
		st.gets(frame(s.post("/v1/groups/a/temp", "x"), "", `"x"`))
	}
	raw := s.listen("/v1/groups/+/temp?format=raw")
	raw.gets("data: 21\n\n", "event: alarm\ndata: hot\n\n")

	for _, resumes := range []string{"last_event_id=" + last.ID, "since=" + last.ID, "since=0s", "last=0", "since=2999-01-01T00:00:00Z"} {
		st := s.listen("/v1/groups/a/temp?" + resumes)
		marker := frame(s.post("/v1/groups/a/temp", "marker"), "", `"marker"`)
		for block := st.block(); block != marker; block = st.block() {
			if strings.Contains(block, "retained") {
				t.Errorf("%s: %q", resumes, block)
			}
		}
	}
	var groups struct {
		Groups []struct {
			Group    string
			Retained bool
		}
	}
	s.wants(200, "", "GET /v1/groups?filter=c/temp", "").decode(t, &groups)
	if len(groups.Groups) != 1 || groups.Groups[0].Retained {
		t.Errorf("%s was not cleared: %+v", cleared.ID, groups)
	}
}

func TestStreamStartsAtTheRequestedPosition(t *testing.T) {
	// $1, $2 and $3 are the ids of three messages, $t is the time of the first, and $9 is a future id.
	// "gap ID" wants a gap after that id, and then all messages.
	for _, c := range []struct{ query, header, want string }{
		{"", "", ""},
		{"since=all", "", "1 2 3"},
		{"since=1h", "", "1 2 3"},
		{"since=0s", "", ""},
		{"since=0001-01-01T00:00:00Z", "", "1 2 3"},
		{"since=$t", "", "1 2 3"},
		{"since=2999-01-01T00:00:00Z", "", ""},
		{"since=2000-01-01T00:00:00%2B02:00", "", "1 2 3"},
		{"since=2000-01-01T00:00:00+02:00", "", "1 2 3"}, // an unescaped +
		{"since=$2", "", "3"},
		{"since=$3", "", ""},
		{"last=0", "", ""},
		{"last=1", "", "3"},
		{"last=2", "", "2 3"},
		{"last=100", "", "1 2 3"},
		{"last_event_id=$1", "", "2 3"},
		{"", "$2", "3"},
		{"since=all", "$2", "3"},
		{"last=3", "$2", "3"},
		{"last_event_id=$1", "$2", "3"},
		{"last_event_id=", "", ""},
		{"lastEventId=$1", "", "2 3"},
		{"lastEventId=$1", "$2", "3"},
		{"lastEventId=$1&last_event_id=$1", "", "2 3"},
		{"lastEventId=", "", ""},
		{"last_event_id=zzzzzz-9", "", "gap zzzzzz-9"},
		{"since=zzzzzz-9", "", "gap zzzzzz-9"},
		{"", "no id at all", "gap no id at all"},
		{"", "\xff\xfe", "gap \uFFFD"},
		{"", "$9", "gap $9"},
		{"last_event_id=1%0Aid:+2%0D%0A%0Adata:+x", "", "gap 1\nid: 2\r\n\ndata: x"},
		{"last_event_id=%00", "", "gap \x00"},
		{"", strings.Repeat("x", 20_000), "gap " + strings.Repeat("x", 128)},
	} {
		t.Run(fmt.Sprintf("%.40s %.40q", c.query, c.header), func(t *testing.T) {
			s := serve(t)
			one := s.post("/v1/groups/foo", "1")
			two := s.post("/v1/groups/foo", "2")
			s.post("/v1/groups/bar", "not for foo")
			three := s.post("/v1/groups/foo", "3")
			nextMillisecond(t)
			fill := strings.NewReplacer("$1", one.ID, "$2", two.ID, "$3", three.ID, "$t", one.Time, "$9", position(three.ID, 1000)).Replace
			var header []string
			if c.header != "" {
				header = []string{"Last-Event-ID", fill(c.header)}
			}
			st := s.listen("/v1/groups/foo?"+fill(c.query), header...)
			want := c.want
			if id := st.id; (id == "") != strings.HasPrefix(want, "gap ") {
				t.Errorf("the session event has the id %q: a client that is cut off now must keep an unknown id, and no other", id)
			}
			if id, ok := strings.CutPrefix(want, "gap "); ok {
				after, _ := json.Marshal(fill(id))
				st.gets("event: gap\nid: " + position(one.ID, -1) + "\ndata: {\"filter\":\"foo\",\"after\":" + string(after) +
					",\"oldest\":\"" + one.ID + "\",\"reason\":\"epoch\"}\n\n")
				want = "1 2 3"
			}
			for i, r := range []receipt{one, two, three} {
				if n := fmt.Sprint(i + 1); strings.Contains(want, n) {
					st.gets(frame(r, "", `"`+n+`"`))
				}
			}
			st.gets(frame(s.post("/v1/groups/foo", "marker"), "", `"marker"`)) // nothing else came in between
		})
	}
}

func TestMessageMatchedBySeveralFiltersIsDeliveredOnce(t *testing.T) {
	s := serve(t)
	st := s.listen("/v1/events?group=a/b&group=a/%2B&group=a/%23&group=%23&group=a/b&since=all")
	for range 3 {
		st.gets(frame(s.post("/v1/groups/a/b", "x"), "", `"x"`))
	}
}

func TestStreamIsAnAliasOfGroup(t *testing.T) {
	s := serve(t)
	st := s.listen("/v1/events?stream=a/%23&group=b")
	for _, name := range []string{"a/b", "b"} {
		st.gets(frame(s.post("/v1/groups/"+name, "x"), "", `"x"`))
	}
}

func TestEchoFalseOmitsOwnMessages(t *testing.T) {
	s := serve(t)
	const mine, other = "my-own-secret-is-this", "the-secret-of-another"
	st := s.listen("/v1/groups/foo?echo=false", "Watchbox-Session", mine)
	loud := s.listen("/v1/groups/foo?echo=true", "Watchbox-Session", mine)
	if st.uid != loud.uid || st.secret != "" {
		t.Errorf("the same secret has the uids %s and %s, and the session event has the secret %q", st.uid, loud.uid, st.secret)
	}
	m := s.post("/v1/groups/foo", "mine", "Watchbox-Session", mine)
	o := s.post("/v1/groups/foo", "other", "Watchbox-Session", other)
	n := s.post("/v1/groups/foo", "nobody")
	otherUID := s.listen("/v1/groups/x?session=" + other).uid
	fromMine := frame(m, `"uid":"`+st.uid+`",`, `"mine"`)
	fromOther := frame(o, `"uid":"`+otherUID+`",`, `"other"`)
	loud.gets(fromMine, fromOther, frame(n, "", `"nobody"`))
	st.gets(fromOther, frame(n, "", `"nobody"`))
}

func TestSecretFromTheServerGivesTheSameUID(t *testing.T) {
	s := serve(t)
	given := s.listen("/v1/groups/foo")
	if len(given.secret) < 16 || given.uid == "" {
		t.Fatalf("uid %q, secret %q", given.uid, given.secret)
	}
	again := s.listen("/v1/groups/foo?session=" + given.secret)
	if again.uid != given.uid || again.secret != "" {
		t.Errorf("uid %q, secret %q; want %q and none", again.uid, again.secret, given.uid)
	}
	if other := s.listen("/v1/groups/foo"); other.uid == given.uid || other.secret == given.secret {
		t.Error("two listeners get the same secret")
	}
	header := s.listen("/v1/groups/foo?session=not-this-but-that-one", "Watchbox-Session", given.secret)
	if header.uid != given.uid {
		t.Error("the query takes precedence over the header")
	}
}

func TestExpiredMessageIsNotDelivered(t *testing.T) {
	s := serve(t)
	st := s.listen("/v1/groups/bar")
	r := s.post("/v1/groups/bar?ttl=1h", "long")
	var m struct{ Time, Expires time.Time }
	_, _, data := parseBlock(st.block())
	if err := json.Unmarshal([]byte(data), &m); err != nil || m.Expires.Sub(m.Time) != time.Hour {
		t.Errorf("%s expires %v after %v (%v)", r.ID, m.Expires, m.Time, err)
	}
	s.post("/v1/groups/foo?ttl=1ms&retain=true", "short")
	eventually(t, "the message expires", func() bool {
		return !strings.Contains(s.do("GET /v1/history/foo", "").body, "short")
	})
	late := s.listen("/v1/groups/foo?since=all")
	fresh := s.listen("/v1/groups/foo") // the message was retained there
	f := frame(s.post("/v1/groups/foo", "marker"), "", `"marker"`)
	late.gets(f)
	fresh.gets(f)
}

func TestGapNamesTheFilterThatLostMessages(t *testing.T) {
	s := serve(t, watchbox.WithPolicy("foo", watchbox.Policy{MaxMessages: 2}))
	seen := s.post("/v1/groups/foo", "0")
	kept := s.post("/v1/groups/bar", "kept")
	var ids []string
	for i := range 4 {
		ids = append(ids, s.post("/v1/groups/foo", fmt.Sprint(i+1)).ID)
	}
	oldest := ids[2]
	want := "event: gap\nid: " + position(oldest, -1) + "\ndata: {\"filter\":\"foo\",\"after\":\"" + seen.ID +
		"\",\"oldest\":\"" + oldest + "\",\"reason\":\"evicted\"}\n\n"
	st := s.listen("/v1/groups/foo", "Last-Event-ID", seen.ID)
	st.gets(want)
	if _, id, _ := parseBlock(st.block()); id != oldest {
		t.Errorf("%s follows the gap, want %s", id, oldest)
	}
	s.listen("/v1/groups/bar?last_event_id=" + seen.ID).gets(frame(kept, "", `"kept"`))

	both := s.listen("/v1/events?group=bar&group=foo&last_event_id=" + seen.ID)
	both.gets("event: gap\nid: " + position(kept.ID, -1) + "\ndata: {\"filter\":\"foo\",\"after\":\"" + seen.ID +
		"\",\"oldest\":\"" + kept.ID + "\",\"reason\":\"evicted\"}\n\n" + frame(kept, "", `"kept"`))

	s.wants(204, "", "DELETE /v1/groups/foo", "")
	nothing := s.listen("/v1/groups/foo?last_event_id=" + ids[3]) // this stream has missed nothing
	gone := s.listen("/v1/groups/foo?last_event_id=" + oldest)
	_, id, data := parseBlock(gone.block())
	if want := `{"filter":"foo","after":"` + oldest + `","reason":"evicted"}`; data != want || seq(id) < seq(ids[3]) {
		t.Errorf("a gap without later messages is %s %s, want %s", id, data, want)
	}
	f := frame(s.post("/v1/groups/foo", "marker"), "", `"marker"`)
	nothing.gets(f)
	gone.gets(f)
}

func TestInvalidSubscriptionsAreRefused(t *testing.T) {
	s := serve(t)
	for _, c := range []struct{ query, code, parameter string }{
		{"sinse=all", "parameter-unknown", "sinse"},
		{"event=x", "parameter-unknown", "event"},
		{"since=all&since=all", "parameter-invalid", "since"},
		{"last_event_id=a-1&lastEventId=a-2", "parameter-invalid", "lastEventId"},
		{"since=", "parameter-invalid", "since"},
		{"since=yesterday", "parameter-invalid", "since"},
		{"since=-5m", "parameter-invalid", "since"},
		{"since=2026-13-01T00:00:00Z", "parameter-invalid", "since"},
		{"since=all&last=1", "parameter-invalid", "last"},
		{"last=-1", "parameter-invalid", "last"},
		{"last=x", "parameter-invalid", "last"},
		{"last=", "parameter-invalid", "last"},
		{"last=2147483648", "parameter-invalid", "last"},
		{"format=xml", "parameter-invalid", "format"},
		{"format=", "parameter-invalid", "format"},
		{"echo=no", "parameter-invalid", "echo"},
		{"heartbeat=99ms", "parameter-invalid", "heartbeat"},
		{"heartbeat=61m", "parameter-invalid", "heartbeat"},
		{"heartbeat=5", "parameter-invalid", "heartbeat"},
		{"heartbeat=NaNs", "parameter-invalid", "heartbeat"},
		{"session=short", "session-invalid", ""},
		{"session=", "session-invalid", ""},
		{"session=with+blanks+in+between", "session-invalid", ""},
		{"session=" + strings.Repeat("x", 129), "session-invalid", ""},
		{"a;b", "parameter-invalid", ""},
		{"since=%zz", "parameter-invalid", ""},
	} {
		for _, target := range []string{"/v1/groups/foo?", "/v1/events?group=foo&"} {
			a := s.wants(400, c.code, "GET "+target+c.query, "")
			if p := a.problem(); p.Parameter != c.parameter || len(p.Detail) < 10 {
				t.Errorf("%s: parameter %q, detail %q", c.query, p.Parameter, p.Detail)
			}
			if head := s.do("HEAD "+target+c.query, ""); head.status != 400 || head.body != "" {
				t.Errorf("HEAD %s: %d %q", c.query, head.status, head.body)
			}
		}
	}
	s.wants(400, "session-invalid", "GET /v1/groups/foo", "", "Watchbox-Session", "a-secret-of-the-client", "Watchbox-Session", "another-secret-of-it")
	s.wants(400, "parameter-invalid", "GET /v1/events", "")
	s.wants(400, "filter-invalid", "GET /v1/events?group=foo&group=a//b", "")
	s.wants(400, "filter-invalid", "GET /v1/events?group=", "")
	s.wants(400, "filter-invalid", "GET /v1/events?stream=a//b", "")
	s.wants(400, "parameter-invalid", "GET /v1/events?stream=a&stream=b", "")
	s.wants(400, "parameter-unknown", "GET /v1/groups/foo?stream=foo", "")
	for _, target := range []string{"/v1/groups/$session/x", "/v1/groups/$session/%23", "/v1/groups/$session", "/v1/events?group=foo&group=$session/%2B"} {
		s.wants(403, "filter-forbidden", "GET "+target, "")
		if head := s.do("HEAD "+target, ""); head.status != 403 {
			t.Errorf("HEAD %s: %d", target, head.status)
		}
	}
}

func TestHEADChecksASubscriptionWithoutOpeningIt(t *testing.T) {
	s := serve(t, watchbox.WithMaxStreams(1))
	for _, target := range []string{"/v1/groups/foo", "/v1/events?group=foo"} {
		for range 3 {
			a := s.do("HEAD "+target, "")
			if a.status != 200 || a.header.Get("Content-Type") != "text/event-stream; charset=utf-8" || a.header.Get("X-Accel-Buffering") != "no" {
				t.Errorf("HEAD %s: %d %v", target, a.status, a.header)
			}
		}
		s.wants(406, "", "HEAD "+target, "", "Accept", "application/json")
		s.wants(403, "", "HEAD "+target, "", "Host", "example.org")
	}
	s.listen("/v1/groups/foo")
}

func TestMaxStreamsRefusesNewStreamsAndKeepsOldOnes(t *testing.T) {
	s := serve(t, watchbox.WithMaxStreams(2))
	a, b := s.listen("/v1/groups/foo"), s.listen("/v1/events?group=foo")
	for _, call := range []string{"GET /v1/groups/foo", "GET /v1/events?group=foo", "POST /v1/events?group=foo"} {
		refused := s.wants(503, "too-many-streams", call, "")
		if refused.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	f := frame(s.post("/v1/groups/foo", "still here"), "", `"still here"`)
	a.gets(f)
	b.gets(f)
	_ = a.Close()
	eventually(t, "a new stream is accepted again", func() bool {
		r := s.request("GET /v1/groups/foo", "")
		resp, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func TestTooManyFiltersAreRefused(t *testing.T) {
	s := serve(t)
	query := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "&group=g%d", i)
		}
		return "/v1/events?" + b.String()[1:]
	}
	st := s.listen(query(64))
	st.gets(frame(s.post("/v1/groups/g63", "x"), "", `"x"`))
	s.wants(400, "too-many-filters", "GET "+query(65), "")
	s.wants(400, "", "HEAD "+query(65), "")

	few := serve(t, watchbox.WithMaxFilters(2))
	own := few.listen("/v1/events?group=a&group=b")
	few.wants(400, "too-many-filters", "PUT /v1/sessions/"+own.uid+"/groups/c", "", "Watchbox-Session", own.secret)
	few.wants(204, "", "DELETE /v1/sessions/"+own.uid+"/groups/a", "", "Watchbox-Session", own.secret)
	few.wants(204, "", "PUT /v1/sessions/"+own.uid+"/groups/c", "", "Watchbox-Session", own.secret)
}

func TestAcceptHeadersThatAllowAStream(t *testing.T) {
	s := serve(t)
	for accept, want := range map[string]int{
		"": 200, "*/*": 200, "text/event-stream": 200, "text/*": 200, "TEXT/Event-Stream": 200,
		"application/json, text/event-stream;q=0.1": 200, "text/html, */*;q=0.8": 200, "nonsense, */*": 200,
		"application/json": 406, "text/event-stream;q=0": 406, "*/*, text/event-stream;q=0": 406,
		"text/event-stream;q=x": 406, "text/html": 406, "*/*;q=0": 406,
	} {
		for _, target := range []string{"/v1/groups/foo", "/v1/events?group=foo"} {
			if want == 200 {
				s.listen(target, "Accept", accept)
				continue
			}
			s.wants(406, "not-acceptable", "GET "+target, "", "Accept", accept)
		}
	}
}
