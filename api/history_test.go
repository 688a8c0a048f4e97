package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

func TestHistoryListsMessagesOldestFirst(t *testing.T) {
	s := serve(t)
	if a := s.wants(200, "", "GET /v1/history/foo", ""); a.body != `{"messages":[]}`+"\n" || a.header.Get("Cache-Control") != "no-cache" {
		t.Errorf("the empty history is %q %v", a.body, a.header)
	}
	one := s.post("/v1/groups/foo?event=e&ttl=1h&retain=true", "1", "Watchbox-Session", "a-secret-of-the-client")
	two := s.post("/v1/groups/foo", "\xff")
	var m struct{ Messages []map[string]any }
	s.wants(200, "", "GET /v1/history/foo", "").decode(t, &m)
	if len(m.Messages) != 2 || m.Messages[0]["id"] != one.ID || m.Messages[1]["id"] != two.ID {
		t.Fatalf("%v", m)
	}
	for _, member := range []string{"event", "expires", "retain", "uid"} {
		if m.Messages[0][member] == nil || m.Messages[1][member] != nil {
			t.Errorf("%s is %v and %v", member, m.Messages[0][member], m.Messages[1][member])
		}
	}
	for range 4 {
		s.post("/v1/groups/foo", "x")
	}
	s.post("/v1/groups/bar", "y")
	nextMillisecond(t)
	for query, want := range map[string]int{
		"": 6, "?since=all": 6, "?since=1h": 6, "?since=0s": 0, "?last=2": 2, "?last=0": 0, "?limit=5": 5, "?last=3&limit=2": 2,
		"?since=" + two.ID: 4, "?since=" + one.Time: 6, "?limit=2147483647": 6, "?since=0001-01-01T00:00:00Z": 6,
	} {
		if h := s.history("foo" + query); len(h.Messages) != want || len(h.Gaps) > 0 {
			t.Errorf("%s: %d messages, want %d; gaps %v", query, len(h.Messages), want, h.Gaps)
		}
		lines := s.wants(200, "", "GET /v1/history/foo"+query, "", "Accept", "application/x-ndjson").body
		if strings.Count(lines, "\n") != want {
			t.Errorf("%s: %d lines, want %d", query, strings.Count(lines, "\n"), want)
		}
		for line := range strings.Lines(lines) {
			if err := theContract.fits("HistoryLine", []byte(line)); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
}

func TestHistoryReportsGapsInJSONAndNDJSON(t *testing.T) {
	s := serve(t, watchbox.WithMaxMessages(2))
	seen := s.post("/v1/groups/foo", "0")
	for range 3 {
		s.post("/v1/groups/foo", "x")
	}
	for since, reason := range map[string]string{seen.ID: "evicted", "zzzzzz-9": "epoch", position(seen.ID, 100): "epoch"} {
		h := s.history("foo?since=" + since)
		if len(h.Gaps) != 1 || h.Gaps[0].After != since || h.Gaps[0].Reason != reason || h.Gaps[0].Oldest != h.Messages[0].ID || len(h.Messages) != 2 {
			t.Errorf("since=%s: %+v", since, h)
		}
		lines := strings.Split(s.wants(200, "", "GET /v1/history/foo?since="+since, "", "Accept", "application/x-ndjson").body, "\n")
		if len(lines) != 4 || !strings.HasPrefix(lines[0], `{"gap":{"filter":"foo","after":"`+since+`"`) {
			t.Errorf("since=%s: %q", since, lines)
		}
		for _, line := range lines[:3] {
			if err := theContract.fits("HistoryLine", []byte(line)); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	for _, all := range []string{"", "?last=10", "?since=all"} {
		if h := s.history("foo" + all); len(h.Gaps) != 0 {
			t.Errorf("%q: unexpected gaps: %+v", all, h.Gaps)
		}
	}
}

func TestPagesOfHistoryHaveEachMessageOnce(t *testing.T) {
	s := serve(t)
	const n = 100
	var want []string
	for i := range n {
		s.post("/v1/groups/other", "x")
		want = append(want, s.post("/v1/groups/foo/"+fmt.Sprint(i%3), "x").ID)
	}
	for _, limit := range []int{1, 7, 50, 99, 100, 101} {
		var got []string
		since := "all"
		for pages := 0; ; pages++ {
			h := s.history(fmt.Sprintf("foo/%%23?limit=%d&since=%s", limit, since))
			for _, m := range h.Messages {
				got = append(got, m.ID)
			}
			if len(h.Messages) > limit || len(h.Gaps) > 0 || pages > n {
				t.Fatalf("limit=%d: page %d has %d messages, gaps %v", limit, pages, len(h.Messages), h.Gaps)
			}
			if h.Next == "" {
				break
			}
			since = h.Next
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("limit=%d: %d messages, want %d", limit, len(got), len(want))
		}
	}
}

// appending is a log that appends other messages each time a reader has found its start.
type appending struct{ *memory.Log }

func (a appending) Find(filters group.Set, s store.Start) (store.Seq, error) {
	seq, err := a.Log.Find(filters, s)
	for range 3 {
		m := store.Message{Group: "foo", Msg: []byte(`"later"`), Time: time.Now()}
		if _, err := a.Append(context.Background(), []store.Entry{m.Entry(nil)}); err != nil {
			panic(err)
		}
	}
	return seq, err
}

func TestHistoryReturnsAtMostTheLastN(t *testing.T) {
	s := serveLog(t, appending{memory.New(memory.Options{})})
	for range 5 {
		s.post("/v1/groups/foo", "x")
	}
	for _, query := range []string{"last=2", "last=2&limit=2", "last=2&limit=5"} {
		if h := s.history("foo?" + query); len(h.Messages) != 2 || h.Next != "" {
			t.Errorf("%s: %d messages, next %q", query, len(h.Messages), h.Next)
		}
	}
	if h := s.history("foo?last=2&limit=1"); len(h.Messages) != 1 || h.Next == "" {
		t.Errorf("last=2&limit=1: %d messages, next %q", len(h.Messages), h.Next)
	}
}

func TestInvalidHistoryRequestsAreRefused(t *testing.T) {
	s := serve(t)
	for query, code := range map[string]string{
		"limit=0": "parameter-invalid", "limit=-1": "parameter-invalid", "limit=": "parameter-invalid", "last=1&since=all": "parameter-invalid",
		"last_event_id=x": "parameter-unknown", "lastEventId=x": "parameter-unknown", "session=a-secret-of-the-client": "parameter-unknown",
	} {
		s.wants(400, code, "GET /v1/history/foo?"+query, "")
	}
	s.wants(403, "filter-forbidden", "GET /v1/history/$session/%23", "")
	for accept, want := range map[string]string{
		"": "application/json", "*/*": "application/json", "application/x-ndjson": "application/x-ndjson", "application/*": "application/json",
		"application/json;q=0.5, application/x-ndjson": "application/x-ndjson", "application/x-ndjson;q=0.5, */*;q=0.5": "application/json",
		"text/html, application/x-ndjson;q=0.1": "application/x-ndjson",
	} {
		a := s.wants(200, "", "GET /v1/history/foo", "", "Accept", accept)
		if got := a.header.Get("Content-Type"); got != want || a.header.Get("Vary") != "Accept" {
			t.Errorf("Accept %q: %s, Vary %q; want %s", accept, got, a.header.Get("Vary"), want)
		}
	}
	for _, accept := range []string{"text/event-stream", "text/html", "application/json;q=0", "x"} {
		s.wants(406, "not-acceptable", "GET /v1/history/foo", "", "Accept", accept)
	}
}

func TestLongHistoryIsStreamed(t *testing.T) {
	s := serve(t, watchbox.WithProfile(watchbox.ProfileSpeed))
	const size, n = 500_000, 100
	line, _ := json.Marshal(strings.Repeat("x", size))
	for range n / 10 {
		s.post("/v1/groups/foo", strings.Repeat(string(line)+"\n", 10), "Content-Type", "application/x-ndjson")
	}
	for _, media := range []string{"application/json", "application/x-ndjson"} {
		c := s.dial()
		c.write("GET /v1/history/foo HTTP/1.0\r\nAccept: %s\r\n\r\n", media)
		least, most, total := uint64(math.MaxUint64), uint64(0), 0
		buf := make([]byte, 64<<10)
		for in, pieces := bufio.NewReader(c), 0; ; pieces++ {
			k, err := io.ReadFull(in, buf)
			total += k
			if pieces%200 == 0 {
				runtime.GC()
				runtime.GC() // the first one leaves what is in a sync.Pool
				var mem runtime.MemStats
				runtime.ReadMemStats(&mem)
				least, most = min(least, mem.HeapAlloc), max(most, mem.HeapAlloc)
			}
			if err != nil {
				break
			}
		}
		if total < size*n {
			t.Errorf("%s: %d bytes, want %d", media, total, size*n)
		}
		if most-least > 8<<20 {
			t.Errorf("%s: the heap was between %d and %d", media, least, most)
		}
	}
}

func TestIncompleteHistoryIsCutOff(t *testing.T) {
	line, _ := json.Marshal(strings.Repeat("x", 500_000))
	for _, media := range []string{"application/json", "application/x-ndjson"} {
		s := serve(t, watchbox.WithProfile(watchbox.ProfileSpeed))
		s.post("/v1/groups/foo", strings.Repeat(string(line)+"\n", 30), "Content-Type", "application/x-ndjson")
		c := s.dial()
		c.write("GET /v1/history/foo HTTP/1.1\r\nHost: localhost\r\nAccept: %s\r\n\r\n", media)
		if _, err := c.in.Peek(1000); err != nil {
			t.Fatal(err)
		}
		if err := s.hub.Close(); err != nil { // while the history is being written
			t.Error(err)
		}
		rest, err := io.ReadAll(c.in)
		if err != nil && !isReset(err) {
			t.Error(err)
		}
		if strings.HasSuffix(string(rest), "0\r\n\r\n") {
			t.Errorf("%s: %d bytes that look complete", media, len(rest))
		}
	}
}
