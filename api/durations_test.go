package api_test

import (
	"strings"
	"testing"
)

// TestDurationsKnowDaysAndWeeks covers each call that takes a duration.
func TestDurationsKnowDaysAndWeeks(t *testing.T) {
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
