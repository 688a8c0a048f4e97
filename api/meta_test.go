package api_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox"
)

// member returns the members of a message between its group and its time.
func member(t *testing.T, data string) string {
	t.Helper()
	_, rest, ok := strings.Cut(data, `"group":"foo",`)
	members, _, found := strings.Cut(rest, `"time":`)
	if !ok || !found {
		t.Fatalf("not a message of foo without a uid: %s", data)
	}
	return members
}

func TestMetadataOfHeadersIsInEachViewButRaw(t *testing.T) {
	s := serve(t)
	st, raw := s.listen("/v1/groups/foo"), s.listen("/v1/groups/foo?format=raw")
	headers := []string{
		"Watchbox-Meta-Room", "kitchen", "watchbox-meta-B", "2", "WATCHBOX-META-b", `é "1"`, "Watchbox-Meta-Empty", "", "Watchbox-Metal", "x",
	}
	const want = `"meta":[["b","2"],["b","é \"1\""],["empty",""],["room","kitchen"]],`
	s.post("/v1/groups/foo?retain=true&event=e", "text", headers...)
	if _, _, data := parseBlock(st.block()); member(t, data) != `"event":"e",`+want {
		t.Errorf("the stream has %s", data)
	}
	if _, _, data := parseBlock(raw.block()); data != "text" {
		t.Errorf("the raw stream has %s", data)
	}
	late := s.listen("/v1/groups/foo")
	if _, _, data := parseBlock(late.block()); member(t, data) != `"event":"e",`+want || !strings.Contains(data, `"retained":true`) {
		t.Errorf("the retained message is %s", data)
	}
	for _, call := range []string{"history/foo", "history/foo?wait=1s&since=all", "retained/foo"} {
		for _, media := range []string{"application/json", "application/x-ndjson"} {
			if a := s.wants(200, "", "GET /v1/"+call, "", "Accept", media); !strings.Contains(a.body, want) {
				t.Errorf("%s as %s: %s", call, media, a.body)
			}
		}
	}
	s.post("/v1/groups/foo", "1\n2", append(headers[:2:2], ndjson...)...)
	for range 2 {
		if _, _, data := parseBlock(st.block()); member(t, data) != `"meta":[["room","kitchen"]],` {
			t.Errorf("a line is %s", data)
		}
	}
	s.post("/v1/groups/foo", "none")
	if _, _, data := parseBlock(st.block()); member(t, data) != "" {
		t.Errorf("a message without metadata is %s", data)
	}
}

func TestMetadataOfObjectsIsKeptAsItIs(t *testing.T) {
	s := serve(t)
	st := s.listen("/v1/groups/foo?last=0")
	for object, want := range map[string]string{
		`{"group":"foo","msg":1,"meta":[["b","1"],["A","2"],["b","3"]]}`: `"meta":[["b","1"],["A","2"],["b","3"]],`,
		`{"group":"foo","msg":1,"meta":[["\u00e9 \"","\u0001\t"]]}`:      `"meta":[["é \"","\u0001\t"]],`,
		`{"group":"foo","msg":1,"event":"e","meta":[]}`:                  `"event":"e",`,
	} {
		s.batch(object)
		if _, _, data := parseBlock(st.block()); member(t, data) != want {
			t.Errorf("%s is sent as %s", object, data)
		}
	}
	other := s.listen("/v1/groups/bar")
	s.setWill(other, `{"group":"foo","msg":"gone","meta":[["why","will"]]}`)
	s.wants(204, "", "DELETE /v1/sessions/"+other.uid, "") // a kick
	if _, _, data := parseBlock(st.block()); !strings.Contains(data, `"group":"foo","meta":[["why","will"]],"uid":`) {
		t.Errorf("the will is %s", data)
	}
	s.wants(201, "", "POST /v1/sessions/"+st.uid, "direct", "Watchbox-Meta-A", "1")
	if _, _, data := parseBlock(st.block()); !strings.Contains(data, `"meta":[["a","1"]],"time":`) {
		t.Errorf("the direct message is %s", data)
	}
}

func TestMetadataOfAWillSurvivesARestart(t *testing.T) {
	notWithNATS(t)
	dir := watchbox.WithDataDir(t.TempDir())
	s := serve(t, dir)
	st := s.listen("/v1/groups/bar")
	s.setWill(st, `{"group":"foo","msg":"gone","meta":[["b","1"],["a","2"]]}`)
	s = s.again(dir)
	s.wants(204, "", "DELETE /v1/sessions/"+st.uid, "")
	if a := s.wants(200, "", "GET /v1/history/foo", ""); !strings.Contains(a.body, `"meta":[["b","1"],["a","2"]],`) {
		t.Errorf("the will is %s", a.body)
	}
}

func TestInvalidMetadataIsRefused(t *testing.T) {
	s := serve(t)
	s.hub.OnMessage(func(watchbox.Message) {})
	st := s.listen("/v1/groups/bar")
	pair := func(name, value string) string { return fmt.Sprintf(`["%s","%s"]`, name, value) }
	many := strings.TrimSuffix(strings.Repeat(pair("a", "1")+",", 17), ",")
	var lots []string
	for i := range 17 {
		lots = append(lots, fmt.Sprint("Watchbox-Meta-", i), "x")
	}
	for _, call := range []string{"POST /v1/groups/foo", "POST /v1/server", "POST /v1/sessions/" + st.uid} {
		for _, headers := range [][]string{
			{"Watchbox-Meta-$qos", "0"}, {"Watchbox-Meta-", "x"}, {"Watchbox-Meta-A", "\xff"}, {"Watchbox-Meta-A", strings.Repeat("x", 1024)}, lots,
		} {
			a := s.wants(400, "meta-invalid", call, "x", headers...)
			if d := a.problem().Detail; len(d) < 20 || len(d) > 400 {
				t.Errorf("%v: %q is not a helpful detail", headers, d)
			}
		}
		s.do(call, "x", lots[:32]...) // as many as there may be
	}
	will := append(st.proof(), "Content-Type", "application/json")
	for _, meta := range []string{
		`["a","1"]`, `[["a"]]`, `[["a","1","2"]]`, `[["a",1]]`, `[["a",null]]`, `[null]`, `{"a":"1"}`, `"a"`, "[[]]",
		"[" + pair("$qos", "1") + "]", "[" + pair("", "1") + "]", "[" + pair(`a\n`, "1") + "]", "[" + pair("a", `\r`) + "]", "[" + pair("a", `\u0000`) + "]",
		"[" + many + "]", "[" + pair("abc", strings.Repeat("x", 1022)) + "]",
	} {
		object := `{"group":"foo","msg":1,"meta":` + meta + `}`
		a := s.wants(400, "meta-invalid", "POST /v1/messages", `{"group":"foo","msg":1}`+"\n"+object, ndjson...)
		if d := a.problem().Detail; !strings.HasPrefix(d, "line 2: meta: ") || len(d) > 400 {
			t.Errorf("%s: %q is not a helpful detail", meta, d)
		}
		s.wants(400, "meta-invalid", "PUT /v1/sessions/"+st.uid+"/will", object, will...)
	}
	header := []string{"Watchbox-Meta-A", "1"}
	s.wants(400, "meta-invalid", "POST /v1/messages", `{"group":"foo","msg":1}`, append(header, ndjson...)...)
	s.wants(400, "meta-invalid", "PUT /v1/sessions/"+st.uid+"/will", `{"group":"foo","msg":1}`, append(header, will...)...)
	s.batch(`{"group":"foo","msg":"most","meta":[` + strings.TrimSuffix(many, ","+pair("a", "1")) + `]}`)
	s.batch(`{"group":"foo","msg":"longest","meta":[` + pair("abc", strings.Repeat("x", 1021)) + `]}`)
	if got := s.history("foo").bodies(); got != `"x" "most" "longest"` {
		t.Errorf("foo has %s", got)
	}
}

// TestTheSameKeyWithOtherMetadataIsAMismatch: metadata is part of what a repeated request must repeat.
func TestTheSameKeyWithOtherMetadataIsAMismatch(t *testing.T) {
	s := serve(t)
	key := []string{"Idempotency-Key", "k"}
	first := s.post("/v1/groups/foo", "x", append(key, "Watchbox-Meta-A", "1")...)
	if again := s.post("/v1/groups/foo", "x", append(key, "Watchbox-Meta-A", "1")...); again != first {
		t.Errorf("the repeated request has %v, the first one %v", again, first)
	}
	s.wants(422, "idempotency-mismatch", "POST /v1/groups/foo", "x", append(key, "Watchbox-Meta-A", "2")...)
	s.wants(422, "idempotency-mismatch", "POST /v1/groups/foo", "x", key...)
}

// TestAnAnswerOfAVersionWithoutMetadataIsRepeated uses a folder of such a version, in which a key was used.
func TestAnAnswerOfAVersionWithoutMetadataIsRepeated(t *testing.T) {
	notWithNATS(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../store/disk/testdata/before-metadata")); err != nil {
		t.Fatal(err)
	}
	s := serve(t, watchbox.WithDataDir(dir))
	a := s.wants(201, "", "POST /v1/groups/foo", "once", "Idempotency-Key", "k")
	if !strings.Contains(a.body, `"id":"u6i3vi-4"`) || a.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the answer is %v %s", a.header, a.body)
	}
	s.wants(422, "idempotency-mismatch", "POST /v1/groups/foo", "once", "Idempotency-Key", "k", "Watchbox-Meta-A", "1")
}

func TestTheProgramSeesAndChangesMetadata(t *testing.T) {
	s := serve(t)
	messages := make(chan watchbox.Message, 10)
	s.hub.OnMessage(func(m watchbox.Message) { messages <- m })
	s.hub.BeforePublish(func(_ context.Context, m *watchbox.Message) error {
		switch {
		case len(m.Meta) == 0:
			m.Meta = [][2]string{{"added", m.Text()}}
		case m.Meta[0][0] == "drop":
			m.Meta = nil
		case m.Meta[0][0] == "bad":
			m.Meta[0][1] = "a\nb"
		default:
			m.Meta[0][1] += "+" // its own copy: the lines of a body have the same headers
		}
		return nil
	})
	s.post("/v1/groups/foo", "1\n2", append([]string{"Watchbox-Meta-Change", "x"}, ndjson...)...)
	s.post("/v1/groups/foo", "3")
	s.post("/v1/groups/foo", "4", "Watchbox-Meta-Drop", "x")
	s.wants(400, "meta-invalid", "POST /v1/groups/foo", "5", "Watchbox-Meta-Bad", "x")
	s.wants(202, "", "POST /v1/server", "6", "Watchbox-Meta-Change", "y")
	want := map[string][][2]string{"1": {{"change", "x+"}}, "2": {{"change", "x+"}}, "3": {{"added", "3"}}, "4": nil, "6": {{"change", "y+"}}}
	for range len(want) { // those of different groups come in any order
		if m := <-messages; !slices.Equal(m.Meta, want[m.Text()]) {
			t.Errorf("OnMessage gets %q with %q, want %q", m.Text(), m.Meta, want[m.Text()])
		}
	}
	if _, _, err := s.hub.PublishBatch(t.Context(), []watchbox.Draft{
		{Group: "foo", Msg: "6", Retain: true, Meta: [][2]string{{"B", "1"}, {"a", "2"}, {"$type", "text/plain"}}},
	}); err != nil {
		t.Fatal(err)
	}
	if a := s.wants(200, "", "GET /v1/history/foo?last=1", ""); !strings.Contains(a.body, `"meta":[["B","1"],["a","2"],["$type","text/plain"]],`) {
		t.Errorf("the program's message is %s", a.body)
	}
	for m, err := range s.hub.Retained(t.Context(), "foo") {
		if err != nil || len(m.Meta) != 3 || m.Meta[0] != [2]string{"B", "1"} {
			t.Errorf("the program reads %q, %v", m.Meta, err)
		}
	}
	if _, _, err := s.hub.PublishBatch(t.Context(), []watchbox.Draft{{Group: "foo", Msg: "7", Meta: [][2]string{{"a", "\n"}}}}); err == nil {
		t.Error("the program's message with a line break in its metadata was accepted")
	}
}
