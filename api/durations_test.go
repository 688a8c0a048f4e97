package api_test

import (
	"strings"
	"testing"
)

// TestDurationsMayHaveDaysAndWeeks covers each call that takes a duration.
func TestDurationsMayHaveDaysAndWeeks(t *testing.T) {
	s := serve(t)
	json := []string{"Content-Type", "application/json"}
	s.post("/v1/groups/foo?ttl=1w2d", "x")
	for _, since := range []string{"1d", "2w", "1d12h", "1.5d"} {
		if h := s.history("foo?since=" + since); h.bodies() != `"x"` {
			t.Errorf("since=%s gives %s", since, h.bodies())
		}
		if st := s.open("/v1/groups/foo?since=" + since); st.block() == "" || !strings.Contains(st.block(), `"msg":"x"`) {
			t.Errorf("a stream since %s does not begin with the message", since)
		}
	}
	a := s.wants(200, "", "PUT /v1/policies/foo", `{"max_age":"1w","coalesce":"0d"}`, json...)
	if !strings.Contains(a.body, `"max_age":"168h0m0s"`) {
		t.Errorf("the policy is %s", a.body)
	}
	st := s.listen("/v1/groups/bar")
	s.wants(204, "", "PUT /v1/sessions/"+st.uid+"/will", `{"group":"foo","msg":1,"delay":"0.5d"}`, append(st.proof(), json...)...)
	s.wants(400, "parameter-invalid", "GET /v1/groups/foo?heartbeat=1d", "") // the largest is an hour
	s.wants(400, "parameter-invalid", "POST /v1/groups/foo?ttl=1y", "x")
	s.wants(400, "parameter-invalid", "GET /v1/history/foo?since=-1d", "")
}

// TestErrorsNameTheMemberAndItsLimits also checks that durations have the form that users write.
func TestErrorsNameTheMemberAndItsLimits(t *testing.T) {
	s := serve(t)
	st := s.listen("/v1/groups/bar")
	will := "PUT /v1/sessions/" + st.uid + "/will"
	for _, c := range []struct {
		call, body, want string
	}{
		{"GET /v1/groups/foo?heartbeat=1d", "", "heartbeat: 24h is not from 100ms to 1h"},
		{"GET /v1/groups/foo?heartbeat=often", "", `heartbeat: "often" is not a duration such as 15s, 2h30m or 7d`},
		{"POST /v1/groups/foo?ttl=521w", "x", "ttl: 521w is not from 1ms to 520w"},
		{"POST /v1/groups/foo?ttl=1y", "x", `ttl: "1y" is not a duration such as`},
		{"POST /v1/messages", `{"group":"foo","msg":1,"ttl":"1us"}`, "line 1: ttl: 1µs is not from 1ms to 520w"},
		{"PUT /v1/policies/foo", `{"max_age":"521w"}`, "max_age: 521w is not from 0s to 520w; 0s means no limit"},
		{"PUT /v1/policies/foo", `{"max_age":"1y"}`, `max_age: "1y" is not a duration such as`},
		{"PUT /v1/policies/foo", `{"max_age":5}`, "max_age cannot be a number"},
		{"PUT /v1/policies/foo", `{"coalesce":"61m"}`, "coalesce: 1h1m is not from 0s to 1h"},
		{"PUT /v1/policies/foo", `{"coalesce":"-1s"}`, "coalesce: -1s is not from 0s to 1h"},
		{will, `{"group":"foo","msg":1,"delay":"25h"}`, "delay: 25h is not from 0s to 24h"},
		{will, `{"group":"foo","msg":1,"delay":"-1s"}`, "delay: -1s is not from 0s to 24h"},
		{will, `{"group":"foo","msg":1,"delay":"soon"}`, `delay: "soon" is not a duration such as`},
		{will, `{"group":"foo","msg":1,"delay":5}`, "delay cannot be a number"},
		{will, `{"group":"foo","msg":1,"ttl":"1y"}`, `ttl: "1y" is not a duration such as`},
		{"GET /v1/history/foo?limit=-1", "", `limit: "-1" is not a whole number from 1 to 2147483647`},
		{"GET /v1/history/foo?limit=0", "", `limit: "0" is not a whole number from 1 to 2147483647`},
		{"GET /v1/history/foo?last=-1", "", `last: "-1" is not a whole number from 0 to 2147483647`},
	} {
		media := "application/json"
		if strings.HasSuffix(c.call, "/messages") {
			media = "application/x-ndjson"
		}
		a := s.do(c.call, c.body, append(st.proof(), "Content-Type", media)...)
		if a.status != 400 && a.status != 422 || !strings.Contains(a.problem().Detail, c.want) {
			t.Errorf("%s %s: %d %s, want %s", c.call, c.body, a.status, a.body, c.want)
		}
	}
}
