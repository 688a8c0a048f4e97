package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox"
)

// retained lists the retained messages of a filter.
func (s *server) retained(target string) (h historyAnswer) {
	s.Helper()
	s.wants(200, "", "GET /v1/retained/"+target, "").decode(s, &h)
	return h
}

func TestRetainedMessagesDoNotDependOnHistory(t *testing.T) {
	s := serve(t, watchbox.WithPolicy("home/#", watchbox.Policy{MaxMessages: 1}))
	if a := s.wants(200, "", "GET /v1/retained/foo", ""); a.body != `{"messages":[]}`+"\n" || a.header.Get("Cache-Control") != "no-cache" {
		t.Errorf("the empty list is %q %v", a.body, a.header)
	}
	temp := s.post("/v1/groups/home/temp?retain=true&event=e&ttl=1h", "21")
	s.post("/v1/groups/home/temp", "not retained")
	s.post("/v1/groups/home/door?retain=true", "open")
	door := s.post("/v1/groups/home/door?retain=true", "\xff")
	s.post("/v1/groups/garden?retain=true", "gone")
	s.post("/v1/groups/garden?retain=true", "")
	s.post("/v1/groups/short?retain=true&ttl=1ms", "expired")
	eventually(t, "expired messages are not listed", func() bool { return s.retained("short").bodies() == "" })
	for filter, want := range map[string]string{
		"home/temp": `"21"`, "home/%23": `"21" "/w=="`, "home/%2B": `"21" "/w=="`, "%23": `"21" "/w=="`, "home": "", "garden": "", "nothing/%23": "",
		"%23?since=" + temp.ID: `"/w=="`, "%23?since=" + door.ID: "", "%23?since=zzzzzz-9": `"21" "/w=="`, "%23?since=" + position("zzzzzz-1", int(seq(door.ID))-1): `"21" "/w=="`, "%23?since=" + position(door.ID, 1000): `"21" "/w=="`,
		"%23?limit=1": `"21"`, "%23?limit=2": `"21" "/w=="`, "%23?limit=1&since=" + temp.ID: `"/w=="`, "$presence/%23": "",
	} {
		if got := s.retained(filter).bodies(); got != want {
			t.Errorf("%s: %s, want %s", filter, got, want)
		}
		lines := s.wants(200, "", "GET /v1/retained/"+filter, "", "Accept", "application/x-ndjson").body
		for line := range strings.Lines(lines) {
			if err := theContract.fits("Message", []byte(line)); err != nil || !strings.Contains(line, `"retained":true`) {
				t.Errorf("%s: %v", line, err)
			}
		}
		if n := strings.Count(lines, "\n"); n != len(strings.Fields(want)) {
			t.Errorf("%s: %d lines, want %s", filter, n, want)
		}
	}
	// A new stream gets them in the same form.
	_, _, data := parseBlock(s.listen("/v1/groups/home/temp").block())
	if a := s.wants(200, "", "GET /v1/retained/home/temp", ""); a.body != `{"messages":[`+data+"]}\n" {
		t.Errorf("%s, want %s", a.body, data)
	}
}

func TestPagesOfRetainedMessagesHaveEachOnce(t *testing.T) {
	s := serve(t)
	const n = 60
	var want []string
	for i := range n {
		want = append(want, s.post(fmt.Sprintf("/v1/groups/foo/%d?retain=true", i), "x").ID)
		s.post("/v1/groups/foo/other", "x")
	}
	for _, limit := range []int{1, 7, n - 1, n, n + 1} {
		var got []string
		query := ""
		for range n + 1 {
			h := s.retained(fmt.Sprintf("foo/%%23?limit=%d%s", limit, query))
			for _, m := range h.Messages {
				got = append(got, m.ID)
			}
			if query = "&since=" + h.Next; h.Next == "" {
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("limit=%d: %d messages, want %d", limit, len(got), n)
		}
	}
}

func TestInvalidRetainedRequestsAreRefused(t *testing.T) {
	s := serve(t)
	for query, code := range map[string]string{
		"limit=0": "parameter-invalid", "limit=x": "parameter-invalid", "since=10m": "parameter-invalid", "since=": "parameter-invalid", "since=all": "parameter-invalid",
		"since=a-1&since=a-2": "parameter-invalid", "last=1": "parameter-unknown", "%zz": "parameter-invalid",
	} {
		s.wants(400, code, "GET /v1/retained/foo?"+query, "")
	}
	s.wants(400, "filter-invalid", "GET /v1/retained/a//b", "")
	s.wants(403, "filter-forbidden", "GET /v1/retained/$session/%23", "")
	s.wants(406, "not-acceptable", "GET /v1/retained/foo", "", "Accept", "text/html")
	s.wants(200, "", "HEAD /v1/retained/foo", "")
}

// TestRetainedMessagesAreStreamed: a slow client does not delay publishers.
func TestRetainedMessagesAreStreamed(t *testing.T) {
	s := serve(t, watchbox.WithMaxMemory(64<<20))
	const n, size = 20, 500_000
	for i := range n {
		s.post(fmt.Sprintf("/v1/groups/foo/%d?retain=true", i), strings.Repeat("x", size))
	}
	for _, media := range []string{"application/json", "application/x-ndjson"} {
		c := s.dial()
		c.write("GET /v1/retained/foo/%%23 HTTP/1.1\r\nHost: localhost\r\nAccept: %s\r\n\r\n", media)
		if _, err := c.in.Peek(1000); err != nil {
			t.Fatal(err)
		}
		// The response has begun: messages retained from now on are not part of it.
		s.post("/v1/groups/foo/0?retain=true", "new")
		_ = c.SetDeadline(deadline())
		if body := c.response("GET").body; len(body) < size*(n-1) {
			t.Errorf("%s: %d bytes, want %d", media, len(body), size*(n-1))
		}
		s.post("/v1/groups/foo/0?retain=true", strings.Repeat("x", size))
	}
}
