package api_test

import (
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/watchbox-go/watchbox"
)

func TestMetricsFollowPrometheusConventions(t *testing.T) {
	s := serve(t)
	st := s.listen("/v1/groups/foo")
	s.post("/v1/groups/foo", "x")
	_ = st.block()
	a := s.wants(200, "", "GET /metrics", "")
	problems, err := promlint.New(strings.NewReader(a.body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, line := range []string{
		"watchbox_streams 1", "watchbox_sessions 1", "watchbox_messages_published_total 1", "watchbox_streams_opened_total 1", "# TYPE watchbox_streams gauge",
		"# TYPE watchbox_messages_published_total counter",
	} {
		if !strings.Contains(s.metrics(), "\n"+line+"\n") {
			t.Errorf("there is no %q", line)
		}
	}
	eventually(t, "the delivery is counted", func() bool {
		return strings.Contains(s.metrics(), "\nwatchbox_messages_delivered_total 1\n")
	})
}

func TestContractIsServed(t *testing.T) {
	want, err := os.ReadFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if a := serve(t).wants(200, "", "GET /openapi.yaml", ""); a.body != string(want) {
		t.Error("the served openapi.yaml differs from the file")
	}
}

func TestPageIsServedWithETags(t *testing.T) {
	s := serve(t)
	for _, path := range []string{"/", "/assets/app.js", "/assets/css/base.css", "/assets/favicon.svg", "/watchbox.js"} {
		a := s.wants(200, "", "GET "+path, "")
		s.wants(304, "", "GET "+path, "", "If-None-Match", a.header.Get("ETag"))
	}
}

func TestClosedHubRefusesNewRequests(t *testing.T) {
	s := mounted(t)
	s.hub.OnMessage(func(watchbox.Message) {})
	st := s.listen("/v1/groups/foo")
	s.wants(200, "", "GET /readyz", "")
	if err := s.hub.Close(); err != nil {
		t.Error(err)
	}
	st.gets("event: bye\ndata: {\"reason\":\"shutdown\"}\n\n")
	st.ended()
	for _, call := range []string{
		"GET /v1/groups/foo", "GET /v1/events?group=foo", "POST /v1/events?group=foo", "POST /v1/groups/foo", "DELETE /v1/groups/foo", "GET /v1/history/foo", "GET /v1/history/foo?wait=1m", "GET /v1/history?group=foo&wait=1m", "POST /v1/server",
		"GET /v1/retained/foo", "POST /v1/messages",
		"POST /v1/sessions/" + st.uid, "GET /readyz",
	} {
		if a := s.wants(503, "shutting-down", call, ""); a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", call)
		}
	}
	for _, call := range calls { // none of them makes the hub panic
		s.do(call, "{}", "Content-Type", "application/json")
	}
	s.wants(200, "", "GET /healthz", "")
}

func TestBusyProgramIsReported(t *testing.T) {
	s := serve(t)
	free := make(chan struct{})
	defer close(free)
	s.wants(404, "nobody-listens", "POST /v1/server", "x")
	s.hub.OnMessage(func(watchbox.Message) { <-free })
	lines := strings.Repeat("1\n", 1000)
	for i := 0; ; i++ {
		a := s.do("POST /v1/server", lines, "Content-Type", "application/x-ndjson")
		if a.status == 503 {
			if a.code() != "program-busy" || a.header.Get("Retry-After") == "" {
				t.Errorf("%s", a.body)
			}
			break
		}
		if a.status != 202 || i > 20 {
			t.Fatalf("batch %d: %d %s", i, a.status, a.body)
		}
	}
}
