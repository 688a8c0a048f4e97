package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/watchbox-go/watchbox"
)

var ndjson = []string{"Content-Type", "application/x-ndjson"}

// batch publishes lines and fails the test on an error.
func (s *server) batch(lines ...string) (r receipt) {
	s.Helper()
	body := strings.Join(lines, "\n")
	for _, line := range lines {
		if err := theContract.fits("BatchLine", []byte(line)); err != nil {
			s.Errorf("the line %s does not conform to openapi.yaml: %v", line, err)
		}
	}
	s.wants(201, "", "POST /v1/messages", body, ndjson...).decode(s, &r)
	return r
}

func TestBatchToSeveralGroups(t *testing.T) {
	s := serve(t)
	st := s.listen("/v1/groups/%23")
	const secret = "a-secret-of-the-client"
	a := s.wants(201, "", "POST /v1/messages", strings.Join([]string{
		`{"group":"a","msg":{ "x" : [1, 2] }}`, "", ` { "msg" : "text" , "group" : "b/c" , "event" : "alarm" , "ttl" : "1h" } `, "\r",
		`{"group":"a","msg":null,"retain":true}`,
		`{"group":"b","msg":"/w==","encoding":"base64","retain":false}`, `{"group":"b","msg":"dGV4dA==","encoding":"base64"}`, "",
	}, "\n"), append(ndjson, "Watchbox-Session", secret)...)
	var r map[string]any
	a.decode(t, &r)
	first, last := r["first"].(string), r["id"].(string)
	if r["count"] != 5.0 || last != position(first, 4) || r["time"] == "" || len(r) != 4 {
		t.Errorf("the receipt is %s", a.body)
	}
	uid := ""
	for i, want := range []string{
		`"group":"a","uid":"U","time":"T","msg":{"x":[1,2]}`,
		`"group":"b/c","event":"alarm","uid":"U","time":"T","expires":"E","msg":"text"`,
		`"group":"a","uid":"U","time":"T","retain":true,"msg":null`,
		`"group":"b","uid":"U","time":"T","encoding":"base64","msg":"/w=="`,
		`"group":"b","uid":"U","time":"T","msg":"text"`,
	} {
		name, id, data := parseBlock(st.block())
		var m struct{ UID, Time, Expires string }
		if err := json.Unmarshal([]byte(data), &m); err != nil {
			t.Fatal(err)
		}
		uid = m.UID
		want = strings.NewReplacer(`"U"`, `"`+uid+`"`, `"T"`, `"`+r["time"].(string)+`"`, `"E"`, `"`+m.Expires+`"`).Replace(want)
		if id != position(first, i) || data != `{"id":"`+id+`",`+want+`}` || (name == "alarm") != (i == 1) {
			t.Errorf("message %d is %s %s %s, want %s", i, name, id, data, want)
		}
	}
	if uid == "" {
		t.Error("the sender's session is missing")
	}
}

func TestBatchWithoutMediaType(t *testing.T) {
	s := serve(t)
	for _, header := range [][]string{nil, {"Content-Type", "application/x-www-form-urlencoded"}, {"Content-Type", "application/x-ndjson; charset=utf-8"}} {
		s.wants(201, "", "POST /v1/messages", `{"group":"a","msg":1}`, header...)
	}
}

func TestInvalidBatchAppendsNothing(t *testing.T) {
	s := serve(t, watchbox.WithMaxMessageSize(1000))
	const good = `{"group":"a","msg":1}` + "\n\n"
	for line, want := range map[string]string{
		`{`: "400 body-invalid", `{}{}`: "400 body-invalid", `[]`: "400 body-invalid", `1`: "400 body-invalid", `null`: "400 body-invalid",
		"{\"group\":\"a\",\"msg\":\"\xff\"}":                      "400 body-invalid",
		`{"group":"a"}`:                                           "400 body-invalid",
		`{"group":"a","msg":1,"id":"x"}`:                          "400 body-invalid",
		`{"group":"a","msg":1,"retain":"true"}`:                   "400 body-invalid",
		`{"group":"a","msg":1,"ttl":5}`:                           "400 body-invalid",
		`{"group":"a","msg":1,"ttl":"5"}`:                         "400 body-invalid",
		`{"group":"a","msg":1,"ttl":""}`:                          "400 body-invalid",
		`{"group":"a","msg":1,"ttl":"0s"}`:                        "400 body-invalid",
		`{"group":"a","msg":1,"ttl":"-1s"}`:                       "400 body-invalid",
		`{"group":"a","msg":1,"encoding":"hex"}`:                  "400 body-invalid",
		`{"group":"a","msg":"?","encoding":"base64"}`:             "400 body-invalid",
		`{"group":"a","msg":[1],"encoding":"base64"}`:             "400 body-invalid",
		"{\"group\":\"a\xff\",\"msg\":1}":                         "400 body-invalid",
		"{\"group\":\"a\",\"msg\":1,\"event\":\"\xff\"}":          "400 body-invalid",
		`{"group":"a","group":"b","msg":1}`:                       "400 body-invalid",
		`{"group":"a","msg":1,"msg":2}`:                           "400 body-invalid",
		`{"Group":"a","msg":1}`:                                   "400 body-invalid",
		`{"group":"a","mſg":1}`:                                   "400 body-invalid",
		`{"group":1,"msg":1}`:                                     "400 body-invalid",
		`{"msg":1}`:                                               "400 group-invalid",
		`{"group":"","msg":1}`:                                    "400 group-invalid",
		`{"group":"a//b","msg":1}`:                                "400 group-invalid",
		`{"group":"a/+","msg":1}`:                                 "400 group-invalid",
		`{"group":"$sys/stats","msg":1}`:                          "400 group-invalid",
		`{"group":"$session/` + unknownUID + `","msg":1}`:         "400 group-invalid",
		`{"group":"a","msg":1,"event":""}`:                        "400 event-invalid",
		`{"group":"a","msg":1,"event":"bye"}`:                     "400 event-invalid",
		`{"group":"a","msg":1,"event":"error"}`:                   "400 event-invalid",
		`{"group":"a","msg":1,"event":"open"}`:                    "400 event-invalid",
		`{"group":"a","msg":1,"event":"a\nb"}`:                    "400 event-invalid",
		`{"group":"a","msg":"` + strings.Repeat("x", 1000) + `"}`: "413 message-too-large",
	} {
		var status int
		var code string
		_, _ = fmt.Sscan(want, &status, &code)
		p := s.wants(status, code, "POST /v1/messages", good+line+"\n"+good, ndjson...).problem()
		if !strings.HasPrefix(p.Detail, "line 3: ") || len(p.Detail) < 30 || strings.Contains(p.Detail, "json:") || strings.Contains(p.Detail, "Go ") {
			t.Errorf("%s: %q", line, p.Detail)
		}
	}
	for _, body := range []string{"", "\n \n"} {
		s.wants(400, "body-invalid", "POST /v1/messages", body, ndjson...)
	}
	s.wants(413, "message-too-large", "POST /v1/messages", strings.Repeat(" ", 17<<20), ndjson...)
	s.wants(400, "parameter-unknown", "POST /v1/messages?ttl=1s", good, ndjson...)
	s.wants(400, "parameter-invalid", "POST /v1/messages?%zz", good, ndjson...)
	s.wants(400, "session-invalid", "POST /v1/messages", good, append(ndjson, "Watchbox-Session", "short")...)
	s.wants(400, "idempotency-key-invalid", "POST /v1/messages", good, append(ndjson, "Idempotency-Key", " ")...)
	s.wants(415, "unsupported-media-type", "POST /v1/messages", good, "Content-Type", "application/json")
	s.wants(415, "unsupported-media-type", "POST /v1/messages", good, append(ndjson, "Content-Encoding", "gzip")...)
	if h := s.history("%23"); len(h.Messages) > 0 {
		t.Errorf("something was appended: %v", h.Messages)
	}
}

func TestRepeatedBatchAppendsOnce(t *testing.T) {
	s := serve(t)
	s.hub.OnMessage(func(watchbox.Message) {})
	const body = `{"group":"a","msg":1}` + "\n" + `{"group":"b","msg":2}`
	key := append(ndjson, "Idempotency-Key", "k")
	first := s.wants(201, "", "POST /v1/messages", body, key...)
	again := s.wants(201, "", "POST /v1/messages", body, key...)
	if again.body != first.body || again.header.Get("Idempotency-Replayed") != "true" || first.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("%v %s and %v %s", first.header, first.body, again.header, again.body)
	}
	s.wants(422, "idempotency-mismatch", "POST /v1/messages", body+"\n"+body, key...)
	for _, other := range []string{"/v1/server", "/v1/groups/a"} { // keys are separate for each path
		if a := s.do("POST "+other, body, key...); a.status/100 != 2 || a.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%s: %d %s", other, a.status, a.body)
		}
	}
	if got := s.history("%23").bodies(); got != `1 2 {"group":"a","msg":1} {"group":"b","msg":2}` {
		t.Errorf("the history is %s", got)
	}
}

func TestBatchReceiptSurvivesRestart(t *testing.T) {
	notWithNATS(t)
	dir := t.TempDir()
	const body = `{"group":"a","msg":1}` + "\n" + `{"group":"b","msg":2}`
	key := append(ndjson, "Idempotency-Key", "k")
	var first answer
	for life := range 2 {
		s := serve(t, watchbox.WithDataDir(dir))
		a := s.wants(201, "", "POST /v1/messages", body, key...)
		if life == 0 {
			first = a
		} else if a.body != first.body || a.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%v %s, want %s", a.header, a.body, first.body)
		}
		if err := errors.Join(s.end(), s.hub.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestBeforePublishRunsForEachMessageOfABatch(t *testing.T) {
	s := serve(t)
	var seen []string
	s.hub.BeforePublish(func(_ context.Context, m *watchbox.Message) error {
		seen = append(seen, m.Group+" "+m.Event+" "+m.Text())
		switch m.Text() {
		case "no":
			return errors.New("not this one")
		case "else":
			m.Group, m.Event = "c", "e"
			return m.Set([]byte{0xff})
		case "wrong":
			m.Event = "error"
		}
		return nil
	})
	refused := s.wants(403, "refused", "POST /v1/messages", `{"group":"a","msg":"yes"}`+"\n"+`{"group":"b","msg":"no"}`, ndjson...)
	if got := refused.problem().Detail; got != "line 2: not this one" {
		t.Errorf("the detail is %q", got)
	}
	s.wants(400, "event-invalid", "POST /v1/messages", `{"group":"a","msg":"wrong"}`, ndjson...)
	s.batch(`{"group":"a","msg":"yes","event":"x"}`, `{"group":"b","msg":"else"}`)
	if want := []string{"a  yes", "b  no", "a  wrong", "a x yes", "b  else"}; !slices.Equal(seen, want) {
		t.Errorf("the hook saw %q, want %q", seen, want)
	}
	h := s.history("%23").Messages
	if len(h) != 2 || h[0].Group != "a" || h[1].Group != "c" || h[1].Event != "e" || h[1].Encoding != "base64" {
		t.Errorf("the history is %+v", h)
	}
}

func TestOnMessageGetsBatchesInOrderForEachGroup(t *testing.T) {
	s := serve(t)
	received := make(chan watchbox.Message, 1000)
	s.hub.OnMessage(func(m watchbox.Message) { received <- m })
	const rounds = 50
	for i := range rounds {
		s.batch(fmt.Sprintf(`{"group":"a","msg":%d}`, 2*i), fmt.Sprintf(`{"group":"b","msg":%d}`, 2*i), fmt.Sprintf(`{"group":"a","msg":%d}`, 2*i+1))
		s.post("/v1/groups/b", fmt.Sprint(2*i+1), "Content-Type", "application/json")
	}
	next := map[string]int{}
	for range 4 * rounds {
		m := <-received
		var n int
		if err := m.Decode(&n); err != nil || n != next[m.Group] || m.ID == "" {
			t.Fatalf("group %s: received %s, want %d", m.Group, m.Data, next[m.Group])
		}
		next[m.Group]++
	}
}

func TestBatchAcrossMemoryAndDiskIsAtomicAndAdjacent(t *testing.T) {
	notWithNATS(t)
	s := serve(t, watchbox.WithDataDir(t.TempDir()), watchbox.WithFsync(watchbox.FsyncNever), watchbox.WithMaxMemory(16<<20),
		watchbox.WithMaxRequestMemory(256<<20)) // enough for all writers: on a slow machine one might wait too long for the others
	s.wants(200, "", "PUT /v1/policies/memory/%23", `{"store":"memory"}`, "Content-Type", "application/json")
	const writers, batches = 4, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for b := range batches {
				r := s.batch(
					fmt.Sprintf(`{"group":"memory/%d","msg":[%d,%d,0]}`, w, w, b), fmt.Sprintf(`{"group":"disk/%d","msg":[%d,%d,1]}`, w, w, b),
					fmt.Sprintf(`{"group":"memory/x","msg":[%d,%d,2]}`, w, b), fmt.Sprintf(`{"group":"disk/x","msg":[%d,%d,3]}`, w, b))
				if r.Count != 4 || r.First != position(r.ID, -3) {
					t.Errorf("%+v does not have 4 consecutive ids", r)
				}
				s.wants(400, "body-invalid", "POST /v1/messages", `{"group":"disk/x","msg":0}`+"\n"+`{"group":"memory/x","msg":0}`+"\n{", ndjson...)
			}
			// Memory has no room for this batch, so the disk must not store any of it.
			s.wants(507, "store-full", "POST /v1/messages", `{"group":"disk/x","msg":0}`+strings.Repeat("\n"+`{"group":"memory/x","msg":"`+strings.Repeat("x", 900_000)+`"}`, 3), ndjson...)
			for b := range batches {
				r := s.batch(fmt.Sprintf(`{"group":"disk/%d","msg":[%d,%d,0]}`, w, w, b), fmt.Sprintf(`{"group":"memory/x","msg":[%d,%d,1]}`, w, b),
					fmt.Sprintf(`{"group":"disk/x","msg":[%d,%d,2]}`, w, b), fmt.Sprintf(`{"group":"memory/%d","msg":[%d,%d,3]}`, w, w, b))
				if r.Count != 4 || r.First != position(r.ID, -3) {
					t.Errorf("%+v does not have 4 consecutive ids", r)
				}
			}
		})
	}
	wg.Wait()
	list := s.history("%23").Messages
	if len(list) != writers*batches*8 {
		t.Fatalf("%d messages, want %d", len(list), writers*batches*8)
	}
	for i, m := range list {
		var got, first [3]int
		if err := errors.Join(json.Unmarshal(m.Msg, &got), json.Unmarshal(list[i-i%4].Msg, &first)); err != nil {
			t.Fatal(err)
		}
		if want := [3]int{first[0], first[1], i % 4}; got != want || m.ID != position(list[i-i%4].ID, i%4) {
			t.Fatalf("message %d is %v at %s, want %v behind %s", i, got, m.ID, want, list[i-i%4].ID)
		}
	}
}

func TestBatchWithTooManyGroupsAppendsNothing(t *testing.T) {
	s := serve(t, watchbox.WithMaxGroups(2))
	s.batch(`{"group":"a","msg":1}`)
	s.wants(507, "too-many-groups", "POST /v1/messages", `{"group":"a","msg":2}`+"\n"+`{"group":"b","msg":2}`+"\n"+`{"group":"c","msg":2}`, ndjson...)
	s.batch(`{"group":"a","msg":3}`, `{"group":"b","msg":3}`)
	if got := s.history("%23").bodies(); got != "1 3 3" {
		t.Errorf("the history is %s", got)
	}
}

func TestEmptyStringClearsRetainedMessage(t *testing.T) {
	s := serve(t)
	for _, clear := range []func(){
		func() { s.post("/v1/groups/a?retain=true", "") },
		func() { s.post("/v1/groups/a?retain=true", ` "" `, "Content-Type", "application/json") },
		func() { s.post("/v1/groups/a?retain=true", `""`, ndjson...) },
		func() { s.batch(`{"group":"a","msg":"","retain":true}`) },
		func() { s.batch(`{"group":"a","msg":"","retain":true,"encoding":"base64"}`) },
	} {
		s.batch(`{"group":"a","msg":"x","retain":true}`)
		if got := s.retained("a").bodies(); got != `"x"` {
			t.Errorf("retained is %s", got)
		}
		clear()
		if got := s.retained("a").bodies(); got != "" {
			t.Errorf("retained is %s", got)
		}
	}
}
