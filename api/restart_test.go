package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
)

// again ends a server and starts another one with opts, which may name the same data directory.
func (s *server) again(opts ...watchbox.Option) *server {
	s.Helper()
	if err := s.end(); err != nil {
		s.Fatal(err)
	}
	if err := s.hub.Close(); err != nil {
		s.Fatal(err)
	}
	return serve(s.TB, opts...)
}

func TestStreamResumesAfterRestartWithoutGap(t *testing.T) {
	notWithNATS(t)
	opt := watchbox.WithDataDir(t.TempDir())
	s := serve(t, opt)
	st := s.listen("/v1/groups/foo")
	first := s.post("/v1/groups/foo", "1")
	st.gets(frame(first, "", `"1"`))
	second := s.post("/v1/groups/foo", "2", "Content-Type", "text/plain")
	s = s.again(opt)
	if h := s.history("foo"); h.bodies() != `"1" "2"` {
		t.Errorf("the history is %s", h.bodies())
	}
	third := s.post("/v1/groups/foo", "3")
	if epoch(third.ID) != epoch(first.ID) || third.ID == second.ID {
		t.Errorf("the id after %s is %s", second.ID, third.ID)
	}
	s.listen("/v1/groups/foo", "Last-Event-ID", first.ID).gets(frame(second, "", `"2"`) + frame(third, "", `"3"`))
}

func epoch(id string) string { e, _, _ := strings.Cut(id, "-"); return e }

func TestRestartReportsAGapForGroupsInMemory(t *testing.T) {
	notWithNATS(t)
	opt := watchbox.WithDataDir(t.TempDir())
	s := serve(t, opt)
	s.wants(200, "", "PUT /v1/policies/fast", `{"store":"memory"}`, "Content-Type", "application/json")
	kept := s.post("/v1/groups/kept", "1")
	s.post("/v1/groups/fast", "2")
	s = s.again(opt)
	st := s.listen("/v1/groups/fast", "Last-Event-ID", kept.ID)
	if name, _, data := parseBlock(st.block()); name != "gap" || data != `{"filter":"fast","after":"`+kept.ID+`","reason":"evicted"}` {
		t.Errorf("the stream has %s: %s", name, data)
	}
	s.listen("/v1/groups/kept", "Last-Event-ID", kept.ID).gets(frame(s.post("/v1/groups/kept", "3"), "", `"3"`))
}

func TestIdempotencyKeysSurviveRestart(t *testing.T) {
	notWithNATS(t)
	opt := watchbox.WithDataDir(t.TempDir())
	s := serve(t, opt)
	key := []string{"Idempotency-Key", "a-key"}
	batch := []string{"Idempotency-Key", "another", "Content-Type", "application/x-ndjson"}
	first := s.post("/v1/groups/foo", "1", key...)
	many := s.post("/v1/groups/foo", "2\n3\n", batch...)
	for range 2 {
		s = s.again(opt)
		a := s.wants(201, "", "POST /v1/groups/foo", "1", key...)
		var r receipt
		a.decode(t, &r)
		if r != first || a.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%+v, want %+v", r, first)
		}
		if r = s.post("/v1/groups/foo", "2\n3\n", batch...); r != many {
			t.Errorf("%+v, want %+v", r, many)
		}
		s.wants(422, "idempotency-mismatch", "POST /v1/groups/foo", "other", key...)
	}
	if h := s.history("foo"); h.bodies() != `"1" 2 3` {
		t.Errorf("the history is %s", h.bodies())
	}
}

func TestWillIsPublishedAfterRestartUnlessItsSessionReturns(t *testing.T) {
	notWithNATS(t)
	opts := []watchbox.Option{watchbox.WithDataDir(t.TempDir())}
	s := serve(t, opts...)
	will := func(st *stream, msg string) {
		t.Helper()
		delay := "1h"
		if msg == "gone" {
			delay = "1s"
		}
		s.wants(204, "", "PUT /v1/sessions/"+st.uid+"/will", `{"group":"wills","msg":"`+msg+`","delay":"`+delay+`"}`, append(st.proof(), "Content-Type", "application/json")...)
	}
	gone, back, ended, cleared := s.listen("/v1/groups/foo"), s.listen("/v1/groups/foo"), s.listen("/v1/groups/foo"), s.listen("/v1/groups/foo")
	will(gone, "gone")
	will(back, "back")
	will(ended, "ended")
	will(cleared, "cleared")
	s.wants(204, "", "DELETE /v1/sessions/"+ended.uid, "", ended.proof()...)
	s.wants(204, "", "DELETE /v1/sessions/"+cleared.uid+"/will", "", cleared.proof()...)
	s.post("/v1/sessions/"+back.uid, "for you")
	s = s.again(opts...)
	st := s.listen("/v1/groups/wills", "Watchbox-Session", strings.Repeat("watch", 4))
	returned := s.listen("/v1/groups/foo", "Watchbox-Session", back.secret)
	if got := returned.block(); !strings.Contains(got, "for you") {
		t.Errorf("the returning session gets %q", got)
	}
	if got := st.block(); !strings.Contains(got, `"msg":"gone"`) || !strings.Contains(got, gone.uid) {
		t.Errorf("the will is %q", got)
	}
	if h := s.history("wills"); h.bodies() != `"gone"` {
		t.Errorf("the wills are %s", h.bodies())
	}
	s = s.again(opts...) // it is not published twice
	s.wants(204, "", "DELETE /v1/sessions/"+returned.uid, "", "Watchbox-Session", back.secret)
	s.listen("/v1/groups/foo")
	if h := s.history("wills"); h.bodies() != `"gone"` {
		t.Errorf("the wills are %s", h.bodies())
	}
}

func TestSessionsThatSurviveRestartAreListed(t *testing.T) {
	notWithNATS(t)
	opt := watchbox.WithDataDir(t.TempDir())
	s := serve(t, opt)
	st := s.listen("/v1/groups/foo")
	s = s.again(opt, watchbox.WithSessionTimeout(time.Hour))
	for _, path := range []string{"/v1/sessions", "/v1/sessions/" + st.uid, "/v1/presence/foo"} {
		if a := s.wants(200, "", "GET "+path, ""); !strings.Contains(a.body, `"uid":"`+st.uid+`"`) || !strings.Contains(a.body, `"state":"lost"`) {
			t.Errorf("%s is %s", path, a.body)
		}
	}
}

func TestPoliciesAndRetainedMessagesSurviveRestart(t *testing.T) {
	notWithNATS(t)
	opt := watchbox.WithDataDir(t.TempDir())
	s := serve(t, opt)
	s.wants(200, "", "PUT /v1/policies/foo", `{"max_messages":2,"max_age":"1h"}`, "Content-Type", "application/json")
	kept := s.post("/v1/groups/foo?retain=true", "kept")
	for i := range 5 {
		s.post("/v1/groups/foo", fmt.Sprint(i))
	}
	s = s.again(opt)
	if a := s.wants(200, "", "GET /v1/policies/foo", ""); !strings.Contains(a.body, `"max_messages":2,"max_bytes":0,"max_age":"1h0m0s"`) {
		t.Errorf("the policy is %s", a.body)
	}
	if h := s.history("foo"); h.bodies() != `"3" "4"` {
		t.Errorf("the history is %s", h.bodies())
	}
	if got := s.listen("/v1/groups/foo").block(); !strings.Contains(got, `"id":"`+kept.ID+`","retained":true`) {
		t.Errorf("a new stream gets %q", got)
	}
}
