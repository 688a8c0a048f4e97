package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/watchbox-go/watchbox"
)

// FuzzPublishRoundTrip checks that each payload comes back unchanged from history, from a JSON stream
// and from a raw stream.
func FuzzPublishRoundTrip(f *testing.F) {
	for _, body := range []string{
		"", "x", "a\nb\r\nc\rd", "\n\ndata: x\nid: 1\n\n", "\xff\x00", `{"a":[1,2.50,1e400,"\u2028\ud800"]}`, "\"x\"\n{}\r\n\n[ 1 ]", "\ufeff{}", "\u2028\u0085", ": x", " lead",
	} {
		for kind := range mediaTypes {
			f.Add(uint8(kind), []byte(body))
		}
	}
	s := serve(f, watchbox.WithPolicy("#", watchbox.Policy{MaxMessages: 10_000}))
	streams := []*stream{s.listen("/v1/groups/foo"), s.listen("/v1/groups/foo?format=raw")}
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		media := mediaTypes[int(kind)%len(mediaTypes)]
		a := s.in(t).do("POST /v1/groups/foo", string(body), "Content-Type", media)
		want := payloads(media, body)
		if a.status != 201 {
			if a.status != 400 || a.code() != "body-invalid" || want != nil {
				t.Fatalf("%q as %s gets %d %s", body, media, a.status, a.body)
			}
			return
		}
		if want == nil {
			t.Fatalf("%q is accepted as %s", body, media)
		}
		var r receipt
		a.decode(t, &r)
		first := position(r.ID, 1-len(want))
		held := s.in(t).history("foo?since=" + position(first, -1)).Messages
		if len(held) != len(want) {
			t.Fatalf("%q is %d messages, want %d", body, len(held), len(want))
		}
		for i, w := range want {
			same(t, w, held[i])
			for _, st := range streams {
				st.TB = t
				_ = st.SetDeadline(deadline())
				name, id, data := parseEvent(t, st.block())
				if name != "" || id != position(first, i) {
					t.Fatalf("%q: the event %s %s", body, name, id)
				}
				if st.raw {
					sameRaw(t, w, data)
					continue
				}
				var m message
				if err := json.Unmarshal([]byte(data), &m); err != nil {
					t.Fatal(err)
				}
				same(t, w, m)
			}
		}
	})
}

var mediaTypes = []string{"text/plain", "application/json", "application/x-ndjson", "application/octet-stream"}

// payload is the content of one message: text, bytes or a JSON value.
type payload struct {
	data []byte
	json bool
}

// payloads returns the messages expected from a body, or nil if it must be refused.
func payloads(media string, body []byte) (list []payload) {
	switch media {
	case "application/json":
		if json.Valid(body) && utf8.Valid(body) {
			return []payload{{body, true}}
		}
		return nil
	case "application/x-ndjson":
		for line := range bytes.SplitSeq(body, []byte("\n")) {
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			if !json.Valid(bytes.TrimSpace(line)) || !utf8.Valid(line) {
				return nil
			}
			list = append(list, payload{line, true})
		}
		return list
	}
	return []payload{{body, false}}
}

func same(t *testing.T, want payload, m message) {
	t.Helper()
	if want.json {
		if !reflect.DeepEqual(value(t, m.Msg), value(t, want.data)) || m.Encoding != "" {
			t.Fatalf("%q came back as %s", want.data, m.Msg)
		}
		return
	}
	var text string
	if err := json.Unmarshal(m.Msg, &text); err != nil {
		t.Fatal(err)
	}
	if m.Encoding == "base64" {
		b, err := base64.StdEncoding.DecodeString(text)
		if text = string(b); err != nil || utf8.Valid(b) {
			t.Fatalf("%q came back as base64: %v", want.data, err)
		}
	}
	if text != string(want.data) {
		t.Fatalf("%q came back as %q", want.data, text)
	}
}

func sameRaw(t *testing.T, want payload, data string) {
	t.Helper()
	text := string(want.data)
	switch {
	case !want.json && !utf8.ValidString(text):
		text = base64.StdEncoding.EncodeToString(want.data)
	case want.json:
		if s, ok := value(t, want.data).(string); ok {
			text = s
			break
		}
		if !reflect.DeepEqual(value(t, []byte(data)), value(t, want.data)) {
			t.Fatalf("%q came back raw as %q", want.data, data)
		}
		return
	}
	if data != lineFeeds(text) {
		t.Fatalf("%q came back raw as %q", want.data, data)
	}
}

// value decodes a JSON value. Numbers stay as they are written.
func value(t *testing.T, b []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %q", err, b)
	}
	return v
}

// parseEvent parses one block (WHATWG HTML, 9.2.6).
func parseEvent(t *testing.T, block string) (name, id, data string) {
	t.Helper()
	var lines []string
	for line := range strings.SplitSeq(strings.TrimSuffix(lineFeeds(block), "\n\n"), "\n") {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			name = value
		case "id":
			id = value
		case "data":
			lines = append(lines, value)
		default:
			t.Fatalf("the line %q in %q", line, block)
		}
	}
	return name, id, strings.Join(lines, "\n")
}
