package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/watchbox-go/watchbox"
)

// message is a message in history.
type message struct {
	ID, Group, UID, Event, Time, Encoding string
	Retained                              bool
	Msg                                   json.RawMessage
}

type gap struct{ Filter, After, Oldest, Reason string }

type historyAnswer struct {
	Messages []message
	Gap      gap
	Gaps     []gap
	Next     string
	UID      string
}

// history reads the history of a filter.
func (s *server) history(target string) (h historyAnswer) {
	s.Helper()
	s.wants(200, "", "GET /v1/history/"+target, "").decode(s, &h)
	return h
}

// bodies returns the msg of each message.
func (h historyAnswer) bodies() string {
	var list []string
	for _, m := range h.Messages {
		list = append(list, string(m.Msg))
	}
	return strings.Join(list, " ")
}

func TestMediaTypeDeterminesTheMessage(t *testing.T) {
	s := serve(t)
	for _, c := range []struct{ media, body, want string }{
		{"", "text", `"text"`},
		{"text/plain", "text", `"text"`},
		{"text/plain; charset=utf-8", "täxt", `"täxt"`},
		{"application/x-www-form-urlencoded", "a=b&c", `"a=b&c"`},
		{"application/json", "\t{ \"a\" : [ 1 ] }\r\n", `{"a":[1]}`},
		{"Application/JSON; charset=utf-8", "null", `null`},
		{"application/json; x", "1", `1`},
		{"application/json", `"\u2028\u0000<"`, `"\u2028\u0000<"`},
		{"application/json", `12345678901234567890.123`, `12345678901234567890.123`},
		{"application/vnd.api+json", `{}`, `"{}"`},
		{"nonsense/;;", "text", `"text"`},
		{"text/plain", "\x00\x1f\u2028</script>", ""},
		{"application/octet-stream", "text", `"text"`},
		{"application/octet-stream", "\xff", `"/w=="`},
		{"text/plain", "\xff", `"/w=="`},
	} {
		s.post("/v1/groups/foo", c.body, "Content-Type", c.media)
		m := s.history("foo?last=1").Messages[0]
		if c.want != "" && string(m.Msg) != c.want {
			t.Errorf("%q as %q is %s, want %s", c.body, c.media, m.Msg, c.want)
		}
		if binary := strings.Contains(c.body, "\xff"); binary != (m.Encoding == "base64") {
			t.Errorf("%q has the encoding %q", c.body, m.Encoding)
		}
		if text := ""; c.want == "" && (json.Unmarshal(m.Msg, &text) != nil || text != c.body) {
			t.Errorf("%q is %s", c.body, m.Msg)
		}
	}
}

func TestInvalidPublishAppendsNothing(t *testing.T) {
	s := serve(t, watchbox.WithMaxMessageSize(1000))
	const secret = "a-secret-of-the-client"
	long := strings.Repeat("x", 129)
	for _, c := range []struct {
		status       int
		code         string
		target, body string
		header       []string
	}{
		{400, "body-invalid", "foo", "", []string{"Content-Type", "application/json"}},
		{400, "body-invalid", "foo", "{", []string{"Content-Type", "application/json"}},
		{400, "body-invalid", "foo", "{} {}", []string{"Content-Type", "application/json"}},
		{400, "body-invalid", "foo", "\"\xff\"", []string{"Content-Type", "application/json"}},
		{400, "body-invalid", "foo", "\xef\xbb\xbf{}", []string{"Content-Type", "application/json"}},
		{400, "body-invalid", "foo", "NaN", []string{"Content-Type", "application/json"}},
		{400, "body-invalid", "foo", "{}\n{\n", []string{"Content-Type", "application/x-ndjson"}},
		{400, "body-invalid", "foo", "\n \n", []string{"Content-Type", "application/x-ndjson"}},
		{400, "event-invalid", "foo?event=", "x", nil},
		{400, "event-invalid", "foo?event=bye", "x", nil},
		{400, "event-invalid", "foo?event=gap", "x", nil},
		{400, "event-invalid", "foo?event=session", "x", nil},
		{400, "event-invalid", "foo?event=open", "x", nil},
		{400, "event-invalid", "foo?event=error", "x", nil},
		{400, "event-invalid", "foo?event=a%0Ab", "x", nil},
		{400, "event-invalid", "foo?event=a%0D", "x", nil},
		{400, "event-invalid", "foo?event=%00", "x", nil},
		{400, "event-invalid", "foo?event=%FF", "x", nil},
		{400, "event-invalid", "foo?event=" + long, "x", nil},
		{400, "parameter-invalid", "foo?ttl=0s", "x", nil},
		{400, "parameter-invalid", "foo?ttl=-1s", "x", nil},
		{400, "parameter-invalid", "foo?ttl=5", "x", nil},
		{400, "parameter-invalid", "foo?ttl=", "x", nil},
		{400, "parameter-invalid", "foo?retain=1", "x", nil},
		{400, "parameter-invalid", "foo?retain=true&retain=true", "x", nil},
		{400, "parameter-invalid", "foo?event=a&event=b", "x", nil},
		{400, "parameter-unknown", "foo?since=all", "x", nil},
		{400, "parameter-unknown", "foo?session=" + secret, "x", nil},
		{400, "session-invalid", "foo", "x", []string{"Watchbox-Session", "short"}},
		{400, "session-invalid", "foo", "x", []string{"Watchbox-Session", secret, "Watchbox-Session", secret}},
		{400, "idempotency-key-invalid", "foo", "x", []string{"Idempotency-Key", ""}},
		{400, "idempotency-key-invalid", "foo", "x", []string{"Idempotency-Key", "a b"}},
		{400, "idempotency-key-invalid", "foo", "x", []string{"Idempotency-Key", "ä"}},
		{400, "idempotency-key-invalid", "foo", "x", []string{"Idempotency-Key", long}},
		{400, "idempotency-key-invalid", "foo", "x", []string{"Idempotency-Key", "a", "Idempotency-Key", "b"}},
		{400, "group-invalid", "$sys/stats", "x", nil},
		{400, "group-invalid", "a//b", "x", nil},
		{413, "message-too-large", "foo", strings.Repeat("x", 1001), nil},
		{413, "message-too-large", "foo", `"` + strings.Repeat("x", 999) + `"`, []string{"Content-Type", "application/json"}},
		{413, "message-too-large", "foo", "{}" + strings.Repeat(" ", 999), []string{"Content-Type", "application/json"}},
		{413, "message-too-large", "foo", "1\n" + strings.Repeat("1", 1001), []string{"Content-Type", "application/x-ndjson"}},
		{413, "message-too-large", "foo", strings.Repeat("1\n", 9<<20), []string{"Content-Type", "application/x-ndjson"}},
		{415, "unsupported-media-type", "foo", "x", []string{"Content-Encoding", "gzip"}},
		{415, "unsupported-media-type", "foo", "x", []string{"Content-Encoding", "identity", "Content-Encoding", "br"}},
	} {
		a := s.wants(c.status, c.code, "POST /v1/groups/"+c.target, c.body, c.header...)
		if d := a.problem().Detail; len(d) < 20 || len(d) > 400 {
			t.Errorf("%s: %q is not a helpful detail", c.target, d)
		}
	}
	if h := s.history("%23"); len(h.Messages) > 0 {
		t.Errorf("something was appended: %v", h.Messages)
	}
	s.post("/v1/groups/foo", strings.Repeat("x", 1000))
	s.post("/v1/groups/foo", "{}"+strings.Repeat(" ", 998), "Content-Type", "application/json")
	s.post("/v1/groups/foo", strings.Repeat("\xff", 1000), "Content-Encoding", "identity")
	s.post("/v1/groups/foo?event="+long[1:]+"&ttl=1ms", "x", "Idempotency-Key", long[1:])
}

func TestNDJSONIsAtomicAndAdjacent(t *testing.T) {
	s := serve(t)
	const writers, batches, size = 4, 25, 7
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for b := range batches {
				var body strings.Builder
				for i := range size {
					fmt.Fprintf(&body, "[%d, %d, %d]\r\n\n", w, b, i)
				}
				r := s.post("/v1/groups/batch", body.String(), "Content-Type", "application/x-ndjson")
				if r.Count != size || r.First != position(r.ID, 1-size) {
					t.Errorf("%+v does not have %d consecutive ids", r, size)
				}
				s.do("POST /v1/groups/batch", body.String()+"no JSON", "Content-Type", "application/x-ndjson")
				s.post("/v1/groups/other", "x")
			}
		})
	}
	wg.Wait()
	messages := s.history("batch").Messages
	if len(messages) != writers*batches*size {
		t.Fatalf("%d messages, want %d", len(messages), writers*batches*size)
	}
	for i := 0; i < len(messages); i += size {
		var first [3]int
		for k := range size {
			m := messages[i+k]
			var got [3]int
			if err := json.Unmarshal(m.Msg, &got); err != nil {
				t.Fatal(err)
			}
			if k == 0 {
				first = got
			}
			if want := [3]int{first[0], first[1], k}; got != want || m.ID != position(messages[i].ID, k) {
				t.Fatalf("message %d of a batch is %v at %s, want %v at %s", k, got, m.ID, want, position(messages[i].ID, k))
			}
		}
	}
}

func TestRepeatedPOSTAppendsOnce(t *testing.T) {
	s := serve(t)
	const mine, other = "my-own-secret-is-this", "the-secret-of-another"
	key := []string{"Idempotency-Key", "5f0c1c1e-6d0f-4c0e-9a35-0b6a52f0a3f4"}
	first := s.wants(201, "", "POST /v1/groups/foo?event=e", "x", key...)
	if first.header.Get("Idempotency-Replayed") != "" {
		t.Error("the first answer has Idempotency-Replayed")
	}
	for range 2 {
		again := s.wants(201, "", "POST /v1/groups/foo?event=e", "x", key...)
		if again.body != first.body || again.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("the answer is %v %s, want %s", again.header, again.body, first.body)
		}
	}
	for _, c := range [][]string{
		{"foo?event=e", "y"}, {"foo?event=f", "x"}, {"foo", "x"}, {"foo?event=e&ttl=1h", "x"}, {"foo?event=e&retain=true", "x"},
		{"foo?event=e", "1", "Content-Type", "application/json"},
	} {
		s.wants(422, "idempotency-mismatch", "POST /v1/groups/"+c[0], c[1], append(key, c[2:]...)...)
	}
	for _, c := range [][]string{
		{"foo?event=e", "x", "Watchbox-Session", mine}, {"foo?event=e", "x", "Watchbox-Session", other}, {"bar?event=e", "x"},
	} {
		if a := s.wants(201, "", "POST /v1/groups/"+c[0], c[1], append(key, c[2:]...)...); a.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%v gets the answer of the first request", c)
		}
	}
	if n := len(s.history("%23").Messages); n != 4 {
		t.Errorf("%d messages, want 4", n)
	}
}

func TestFailedRequestFreesItsKey(t *testing.T) {
	s := serve(t)
	s.wants(400, "body-invalid", "POST /v1/groups/foo", "{", "Content-Type", "application/json", "Idempotency-Key", "k")
	a := s.wants(201, "", "POST /v1/groups/foo", "{}", "Content-Type", "application/json", "Idempotency-Key", "k")
	if a.header.Get("Idempotency-Replayed") != "" {
		t.Error("the answer has Idempotency-Replayed")
	}
}

func TestConcurrentRequestsWithOneKeyAppendOnce(t *testing.T) {
	s := serve(t)
	for round := range 20 {
		var wg sync.WaitGroup
		answers := make([]answer, 8)
		for i := range answers {
			wg.Go(func() {
				answers[i] = s.wants(201, "", "POST /v1/groups/foo", "x", "Idempotency-Key", fmt.Sprint(round))
			})
		}
		wg.Wait()
		fresh := 0
		for _, a := range answers {
			if a.header.Get("Idempotency-Replayed") == "" {
				fresh++
			}
			if a.body != answers[0].body {
				t.Errorf("%s and %s", a.body, answers[0].body)
			}
		}
		if fresh != 1 {
			t.Errorf("%d requests were appended, want 1", fresh)
		}
	}
	if n := len(s.history("foo").Messages); n != 20 {
		t.Errorf("%d messages, want 20", n)
	}
}

func TestPanicInAHookFreesTheKey(t *testing.T) {
	s := serve(t)
	panics := true
	s.hub.BeforePublish(func(context.Context, *watchbox.Message) error {
		if panics {
			panics = false
			panic("a mistake")
		}
		return nil
	})
	r := s.request("POST /v1/groups/foo", "x", "Idempotency-Key", "k")
	if resp, err := s.client.Do(r); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != 500 {
			t.Errorf("a panic is answered with %s", resp.Status)
		}
	}
	s.post("/v1/groups/foo", "x", "Idempotency-Key", "k")
}

func TestHookRefusesMessages(t *testing.T) {
	s := serve(t)
	s.hub.OnMessage(func(watchbox.Message) {})
	s.hub.BeforePublish(func(context.Context, *watchbox.Message) error { return errors.New("no more than ten an hour") })
	st := s.listen("/v1/groups/x")
	for _, target := range []string{"/v1/groups/foo", "/v1/server", "/v1/sessions/" + st.uid} {
		if a := s.wants(403, "refused", "POST "+target, "x"); a.problem().Detail != "no more than ten an hour" {
			t.Errorf("the detail is %q", a.problem().Detail)
		}
	}
}

func TestTooManyGroupsAreRefused(t *testing.T) {
	s := serve(t, watchbox.WithMaxGroups(2))
	s.post("/v1/groups/a", "x")
	s.post("/v1/groups/b", "x")
	s.wants(507, "too-many-groups", "POST /v1/groups/c", "x")
	s.post("/v1/groups/a", "x")
}

func TestOldPresenceMakesRoomForNewGroups(t *testing.T) {
	s := serve(t, watchbox.WithMaxGroups(3))
	for _, name := range []string{"x", "y", "z"} {
		s.listen("/v1/groups/" + name)
	}
	s.listen("/v1/groups/foo") // accepted although there is no room for its presence group
	for _, name := range []string{"a", "b", "c"} {
		s.post("/v1/groups/"+name, "x")
	}
	s.wants(507, "too-many-groups", "POST /v1/groups/d", "x")
}

func TestMessageLargerThanTheMemoryIsRefused(t *testing.T) {
	s := serve(t, watchbox.WithMaxMemory(16<<20), watchbox.WithMaxMessageSize(16<<20))
	if storeName != "nats" {
		s.wants(200, "", "PUT /v1/policies/a", `{"store":"memory"}`, "Content-Type", "application/json")
	}
	s.wants(507, "store-full", "POST /v1/groups/a", strings.Repeat("x", 9<<20))
	s.post("/v1/groups/a", "x")
}
