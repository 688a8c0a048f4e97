package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
)

// proof returns the session's secret as a header.
func (st *stream) proof() []string { return []string{"Watchbox-Session", st.secret} }

func TestSessionListsItsStreams(t *testing.T) {
	s := serve(t)
	if a := s.wants(200, "", "GET /v1/sessions", ""); a.body != `{"sessions":[]}`+"\n" {
		t.Errorf("the empty list is %q", a.body)
	}
	st := s.listen("/v1/groups/home/%23", "User-Agent", "a test")
	s.listen("/v1/groups/foo", st.proof()...)
	s.listen("/v1/groups/bar")
	var one struct {
		UID, State, Address, User_Agent string
		Filters                         []string
		Streams                         int
	}
	s.wants(200, "", "GET /v1/sessions/"+st.uid, "").decode(t, &one)
	if one.UID != st.uid || one.State != "here" || one.Streams != 2 || strings.Join(one.Filters, " ") != "home/# foo" || !strings.HasPrefix(one.Address, "127.0.0.1:") {
		t.Errorf("%+v", one)
	}
	var all struct{ Sessions []struct{ UID string } }
	s.wants(200, "", "GET /v1/sessions", "").decode(t, &all)
	if len(all.Sessions) != 2 || all.Sessions[0].UID != st.uid {
		t.Errorf("%+v", all)
	}
	for filter, want := range map[string]int{"home/kitchen": 1, "home/%23": 1, "%23": 2, "foo": 1, "+": 2, "nothing": 0} {
		var p struct{ Presence []struct{ UID string } }
		s.wants(200, "", "GET /v1/presence/"+filter, "").decode(t, &p)
		if len(p.Presence) != want {
			t.Errorf("%s: %d, want %d", filter, len(p.Presence), want)
		}
	}
	for _, call := range []string{"GET /v1/sessions?", "GET /v1/presence/foo?", "GET /v1/sessions/" + st.uid + "?"} {
		s.wants(400, "parameter-unknown", call+"x=y", "")
		s.wants(400, "parameter-invalid", call+"%zz", "")
	}
}

func TestLostSessionReturns(t *testing.T) {
	s := serve(t)
	watcher := s.listen("/v1/groups/$presence/foo?format=raw")
	st := s.listen("/v1/groups/foo")
	_ = st.Close()
	event := func(name, more string) {
		t.Helper()
		if _, _, data := parseBlock(watcher.block()); data != `{"event":"`+name+`","uid":"`+st.uid+`"`+more+`}` {
			t.Errorf("%s, want %s", data, name)
		}
	}
	event("join", "")
	event("lost", `,"reason":"closed"`)
	if a := s.wants(200, "", "GET /v1/sessions/"+st.uid, ""); !strings.Contains(a.body, `"state":"lost"`) || !strings.Contains(a.body, `"lost":"`) {
		t.Errorf("%s", a.body)
	}
	s.wants(200, "", "GET /v1/presence/foo", "")
	s.wants(409, "no-stream", "PUT /v1/sessions/"+st.uid+"/groups/bar", "", st.proof()...)
	s.wants(409, "no-stream", "DELETE /v1/sessions/"+st.uid+"/groups/foo", "", st.proof()...)
	direct := s.post("/v1/sessions/"+st.uid, "while you were out")
	back := s.listen("/v1/groups/foo?last_event_id="+st.id, st.proof()...)
	event("back", `,"reason":"closed"`)
	back.gets(frame(direct, "", `"while you were out"`))
	s.wants(204, "", "DELETE /v1/sessions/"+st.uid, "", st.proof()...)
	back.gets("event: bye\ndata: {\"reason\":\"ended\"}\n\n")
	event("gone", `,"reason":"ended"`)
	s.wants(404, "session-unknown", "GET /v1/sessions/"+st.uid, "")
}

func TestMessageToASessionReachesOnlyItsStreams(t *testing.T) {
	s := serve(t)
	a, other := s.listen("/v1/groups/foo"), s.listen("/v1/groups/%23")
	b := s.listen("/v1/groups/bar?format=raw", a.proof()...)
	r := s.post("/v1/sessions/"+a.uid+"?event=hint&ttl=1h", "for you", "Watchbox-Session", other.secret, "Idempotency-Key", "k")
	if r.Group != "$session/"+a.uid {
		t.Errorf("the group is %q", r.Group)
	}
	if name, id, data := parseBlock(a.block()); name != "hint" || id != r.ID || !strings.Contains(data, `"uid":"`+other.uid+`"`) {
		t.Errorf("%s %s %s", name, id, data)
	}
	b.gets("id: " + r.ID + "\nevent: hint\ndata: for you\n\n")
	other.gets(frame(s.post("/v1/groups/foo", "marker"), "", `"marker"`))
	if a := s.do("POST /v1/sessions/"+a.uid+"?event=hint&ttl=1h", "for you", "Watchbox-Session", other.secret, "Idempotency-Key", "k"); a.header.Get("Idempotency-Replayed") == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
	s.wants(422, "idempotency-mismatch", "POST /v1/sessions/"+a.uid, "else", "Watchbox-Session", other.secret, "Idempotency-Key", "k")
}

func TestChangesToASessionNeedItsSecret(t *testing.T) {
	s := serve(t)
	st, other := s.listen("/v1/groups/foo"), s.listen("/v1/groups/foo")
	will := []string{"Content-Type", "application/json"}
	for call, body := range map[string]string{
		"PUT %/groups/bar": "", "DELETE %/groups/foo": "", "PUT %/will": `{"group":"foo","msg":1}`, "DELETE %/will": "", "POST %/heartbeat": "",
	} {
		path := strings.Replace(call, "%", "/v1/sessions/"+st.uid, 1)
		if a := s.wants(401, "session-required", path, body, will...); a.header.Get("WWW-Authenticate") == "" {
			t.Error("a 401 has no WWW-Authenticate")
		}
		s.wants(403, "session-mismatch", path, body, append(other.proof(), will...)...)
		s.wants(400, "session-invalid", path, body, append(will, "Watchbox-Session", "short")...)
		s.wants(400, "parameter-unknown", path+"?x=y", body, append(st.proof(), will...)...)
		s.wants(400, "parameter-invalid", path+"?%zz", body, append(st.proof(), will...)...)
		s.wants(204, "", path, body, append(st.proof(), will...)...)
		s.wants(204, "", path+"?session="+st.secret, body, will...)
		s.wants(404, "session-unknown", strings.Replace(call, "%", "/v1/sessions/"+strings.ToUpper(st.uid), 1), body, append(st.proof(), will...)...)
	}
	_ = other
	s.wants(400, "parameter-unknown", "DELETE /v1/sessions/"+st.uid+"?x=y", "")
	s.wants(400, "parameter-invalid", "DELETE /v1/sessions/"+st.uid+"?%zz", "")
	s.wants(400, "session-invalid", "DELETE /v1/sessions/"+st.uid+"?session=short", "")
	s.wants(204, "", "DELETE /v1/sessions/"+st.uid, "") // a kick
	for _, call := range []string{"GET %", "DELETE %", "PUT %/groups/bar", "DELETE %/groups/foo", "PUT %/will", "DELETE %/will", "POST %/heartbeat", "POST %"} {
		s.wants(404, "session-unknown", strings.Replace(call, "%", "/v1/sessions/"+st.uid, 1), `{"group":"foo","msg":1}`, append(st.proof(), will...)...)
	}
	for _, uid := range []string{"x", "%00", unknownUID + "x", strings.Repeat("x", 1000)} {
		s.wants(404, "session-unknown", "GET /v1/sessions/"+uid, "")
	}
}

func TestFiltersChangeOnAnOpenStream(t *testing.T) {
	s := serve(t)
	s.post("/v1/groups/home/temp?retain=true", "21")
	st := s.listen("/v1/groups/foo")
	path := "/v1/sessions/" + st.uid + "/groups/"
	s.wants(204, "", "PUT "+path+"home/%23", "", st.proof()...)
	if _, id, data := parseBlock(st.block()); id != "" || !strings.Contains(data, `"retained":true`) {
		t.Errorf("%s %s", id, data)
	}
	st.gets(frame(s.post("/v1/groups/home/temp", "22"), "", `"22"`))
	s.wants(204, "", "PUT "+path+"home/%23", "", st.proof()...) // the retained message is sent again
	if _, id, data := parseBlock(st.block()); id != "" || !strings.Contains(data, `"retained":true`) {
		t.Errorf("%s %s", id, data)
	}
	s.wants(204, "", "DELETE "+path+"foo", "", st.proof()...)
	s.wants(204, "", "DELETE "+path+"never/there", "", st.proof()...)
	s.post("/v1/groups/foo", "not any more")
	st.gets(frame(s.post("/v1/groups/home/temp", "23"), "", `"23"`))
	for _, method := range []string{"PUT ", "DELETE "} {
		s.wants(400, "filter-invalid", method+path+"a//b", "", st.proof()...)
	}
	s.wants(403, "filter-forbidden", "PUT "+path+"$session/%23", "", st.proof()...)
}

func TestWillIsPublishedAfterAKickButNotIfTheClientEndsTheSession(t *testing.T) {
	s := serve(t, watchbox.WithSessionTimeout(time.Minute))
	watcher := s.listen("/v1/groups/wills?format=raw")
	set := func(st *stream, body string) {
		t.Helper()
		s.wants(204, "", "PUT /v1/sessions/"+st.uid+"/will", body, append(st.proof(), "Content-Type", "application/json")...)
	}
	ended, cleared, kicked := s.listen("/v1/groups/foo"), s.listen("/v1/groups/foo"), s.listen("/v1/groups/foo")
	set(ended, `{"group":"wills","msg":"ended"}`)
	set(cleared, `{"group":"wills","msg":"cleared"}`)
	set(kicked, `{"group":"wills","msg":"replaced"}`)
	set(kicked, ` { "group" : "wills" , "msg" : { "who" : "kicked" } , "delay" : "5s" } `)
	s.wants(204, "", "DELETE /v1/sessions/"+cleared.uid+"/will", "", cleared.proof()...)
	s.wants(204, "", "DELETE /v1/sessions/"+ended.uid, "", ended.proof()...)
	s.wants(204, "", "DELETE /v1/sessions/"+cleared.uid, "")
	s.wants(204, "", "DELETE /v1/sessions/"+kicked.uid, "", ended.proof()...)
	kicked.gets("event: bye\ndata: {\"reason\":\"kicked\"}\n\n")
	if _, _, data := parseBlock(watcher.block()); data != `{"who":"kicked"}` {
		t.Errorf("%s was sent", data)
	}
}

func TestObjectsMayBeSentWithoutAContentType(t *testing.T) {
	s := serve(t)
	st := s.listen("/v1/groups/foo")
	for _, header := range [][]string{nil, {"Content-Type", "application/x-www-form-urlencoded"}} { // as curl sends
		s.wants(204, "", "PUT /v1/sessions/"+st.uid+"/will", `{"group":"foo","msg":1}`, append(st.proof(), header...)...)
		s.wants(200, "", "PUT /v1/policies/foo", `{"max_messages":1}`, header...)
	}
}

func TestInvalidWillIsRefused(t *testing.T) {
	s := serve(t, watchbox.WithMaxMessageSize(1000))
	st := s.listen("/v1/groups/foo")
	call := "PUT /v1/sessions/" + st.uid + "/will"
	as := append(st.proof(), "Content-Type", "application/json")
	for body, code := range map[string]string{
		"": "body-invalid", "[]": "body-invalid", `{"group":"foo"}`: "body-invalid", `{"msg":1}`: "group-invalid", `{"group":"$x","msg":1}`: "group-invalid",
		`{"group":"a/+","msg":1}`: "group-invalid", `{"group":"foo","msg":1,"delay":"-1s"}`: "body-invalid", `{"group":"foo","msg":1,"delay":5}`: "body-invalid",
		`{"group":"foo","msg":1,"after":"5s"}`: "body-invalid", `{"group":"foo","msg":1,"event":"open"}`: "event-invalid", `{"group":"foo","msg":1,"event":""}`: "event-invalid",
		`{"group":"foo","msg":1,"ttl":"0s"}`: "body-invalid", `{"group":"foo","msg":1,"retain":1}`: "body-invalid", `{"group":"foo","msg":1,"encoding":"base64"}`: "body-invalid", `{"group":"foo","msg":"` + "\xff" + `"}`: "body-invalid", `{"group":1,"msg":1}`: "body-invalid",
	} {
		if p := s.wants(400, code, call, body, as...).problem(); len(p.Detail) < 15 {
			t.Errorf("%s: %q", body, p.Detail)
		}
	}
	s.wants(413, "message-too-large", call, `{"group":"foo","msg":"`+strings.Repeat("x", 1000)+`"}`, as...)
	s.wants(415, "unsupported-media-type", call, "{}", append(st.proof(), "Content-Type", "text/plain")...)
}

func TestMessageToTheProgramIsNotStored(t *testing.T) {
	s := serve(t, watchbox.WithMaxMessageSize(1000))
	received := make(chan watchbox.Message, 10)
	s.hub.OnMessage(func(m watchbox.Message) { received <- m })
	st := s.listen("/v1/groups/%23")
	for range 2 {
		s.wants(202, "", "POST /v1/server?event=ask", "hello", append(st.proof(), "Idempotency-Key", "k")...)
	}
	m := <-received
	if m.Group != "" || m.ID != "" || m.Event != "ask" || m.UID != st.uid || m.Text() != "hello" {
		t.Errorf("%+v", m)
	}
	if _, err := m.Reply(t.Context(), map[string]int{"answer": 42}); err != nil {
		t.Error(err)
	}
	if _, _, data := parseBlock(st.block()); !strings.HasSuffix(data, `"msg":{"answer":42}}`) {
		t.Errorf("%s", data)
	}
	if len(received) > 0 {
		t.Errorf("it is delivered again: %+v", <-received)
	}
	if h := s.history("%23"); len(h.Messages) > 0 {
		t.Errorf("it was appended: %v", h.Messages)
	}
}

func TestInvalidDirectMessagesAreRefused(t *testing.T) {
	s := serve(t, watchbox.WithMaxMessageSize(1000))
	s.hub.OnMessage(func(watchbox.Message) {})
	st := s.listen("/v1/groups/foo")
	for _, path := range []string{"/v1/server", "/v1/sessions/" + st.uid} {
		s.wants(400, "parameter-unknown", "POST "+path+"?retain=true", "x")
		s.wants(400, "parameter-invalid", "POST "+path+"?event=a&event=b", "x")
		s.wants(400, "event-invalid", "POST "+path+"?event=bye", "x")
		s.wants(400, "body-invalid", "POST "+path, "{", "Content-Type", "application/json")
		s.wants(400, "session-invalid", "POST "+path, "x", "Watchbox-Session", "short")
		s.wants(400, "idempotency-key-invalid", "POST "+path, "x", "Idempotency-Key", " ")
		s.wants(413, "message-too-large", "POST "+path, strings.Repeat("x", 1001))
		s.wants(415, "unsupported-media-type", "POST "+path, "x", "Content-Encoding", "gzip")
	}
	s.wants(202, "", "POST /v1/server", "x", "Idempotency-Key", "k")
	s.wants(422, "idempotency-mismatch", "POST /v1/server", "y", "Idempotency-Key", "k")
	s.wants(400, "parameter-unknown", "POST /v1/server?ttl=1s", "x")
}
