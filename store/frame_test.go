package store_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

const uid = "11111111-2222-5333-8444-555555555555"

var at = time.Date(2026, 3, 4, 5, 6, 7, 8_900_000, time.FixedZone("", 3600))

// frame appends a message as a store does.
func frame(m *store.Message, id store.ID) *store.Frame {
	e := m.Entry([]byte("before "))
	b, msg := e.AppendFrame([]byte("before "), id)
	return &store.Frame{Seq: id.Seq, Group: m.Group, Flags: e.Flags(), Msg: msg, Bytes: b[len("before "):]}
}

func TestFramesByteForByte(t *testing.T) {
	for _, c := range []struct {
		name string
		m    store.Message
		want string
		raw  string // after the id line
	}{
		{"text", store.Message{Group: "foo", Msg: []byte(`"person joined"`)},
			`data: {"id":"4k7q9x-1042","group":"foo","time":"2026-03-04T04:06:07.008Z","msg":"person joined"}`,
			`data: person joined`},
		{"JSON", store.Message{Group: "foo", Msg: []byte(`{"a":[1,2]}`)},
			`data: {"id":"4k7q9x-1042","group":"foo","time":"2026-03-04T04:06:07.008Z","msg":{"a":[1,2]}}`,
			`data: {"a":[1,2]}`},
		{"all members", store.Message{Group: `a/"b"`, UID: uid, Event: `an "alarm"`, Expires: at.Add(time.Hour),
			Retain: true, Base64: true, Msg: []byte(`"aGk="`)},
			"event: an \"alarm\"\n" + `data: {"id":"4k7q9x-1042","group":"a/\"b\"","event":"an \"alarm\"",` +
				`"uid":"` + uid + `","time":"2026-03-04T04:06:07.008Z","expires":"2026-03-04T05:06:07.008Z",` +
				`"retain":true,"encoding":"base64","msg":"aGk="}`,
			"event: an \"alarm\"\ndata: aGk="},
		{"metadata", store.Message{Group: "foo", Meta: [][2]string{{"a", "1"}}, Msg: []byte(`1`)},
			`data: {"id":"4k7q9x-1042","group":"foo","meta":[["a","1"]],"time":"2026-03-04T04:06:07.008Z","msg":1}`,
			`data: 1`},
		{"all members and metadata", store.Message{Group: `a/"b"`, UID: uid, Event: `an "alarm"`, Expires: at.Add(time.Hour),
			Meta: [][2]string{{"b", `"x]`}, {"a", ""}, {"b", "2"}}, Retain: true, Base64: true, Msg: []byte(`"aGk="`)},
			"event: an \"alarm\"\n" + `data: {"id":"4k7q9x-1042","group":"a/\"b\"","event":"an \"alarm\"",` +
				`"meta":[["b","\"x]"],["a",""],["b","2"]],` +
				`"uid":"` + uid + `","time":"2026-03-04T04:06:07.008Z","expires":"2026-03-04T05:06:07.008Z",` +
				`"retain":true,"encoding":"base64","msg":"aGk="}`,
			"event: an \"alarm\"\ndata: aGk="},
		{"no pairs of metadata", store.Message{Group: "foo", Meta: [][2]string{}, Msg: []byte(`1`)},
			`data: {"id":"4k7q9x-1042","group":"foo","time":"2026-03-04T04:06:07.008Z","msg":1}`, `data: 1`},
		{"an empty text", store.Message{Group: "foo", Msg: []byte(`""`)},
			`data: {"id":"4k7q9x-1042","group":"foo","time":"2026-03-04T04:06:07.008Z","msg":""}`, `data: `},
		{"a number", store.Message{Group: "foo", Msg: []byte(`-1.5e3`)},
			`data: {"id":"4k7q9x-1042","group":"foo","time":"2026-03-04T04:06:07.008Z","msg":-1.5e3}`, `data: -1.5e3`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.m.Time = at
			f := frame(&c.m, store.ID{Epoch: "4k7q9x", Seq: 1042})
			if want := "id: 4k7q9x-1042\n" + c.want + "\n\n"; string(f.Bytes) != want {
				t.Errorf("frame:\n%swant:\n%s", f.Bytes, want)
			}
			if got, want := string(f.AppendRaw([]byte("x"))), "xid: 4k7q9x-1042\n"+c.raw+"\n\n"; got != want {
				t.Errorf("raw:\n%swant:\n%s", got, want)
			}
			if got, want := string(f.AppendRetained([]byte("x"), true)), "x"+c.raw+"\n\n"; got != want {
				t.Errorf("retained, raw:\n%swant:\n%s", got, want)
			}
			want := "x" + strings.Replace(c.want, `-1042",`, `-1042","retained":true,`, 1) + "\n\n"
			if got := string(f.AppendRetained([]byte("x"), false)); got != want {
				t.Errorf("retained:\n%swant:\n%s", got, want)
			}
		})
	}
}

func TestEachLineEndOfARawPayloadBeginsADataLine(t *testing.T) {
	for text, want := range map[string]string{
		"a\nb":                   "data: a\ndata: b",
		"a\rb":                   "data: a\ndata: b",
		"a\r\nb":                 "data: a\ndata: b",
		"a\n\rb":                 "data: a\ndata: \ndata: b",
		"a\r\r\nb":               "data: a\ndata: \ndata: b",
		"\n":                     "data: \ndata: ",
		"a\r\n":                  "data: a\ndata: ",
		"\r":                     "data: \ndata: ",
		"x\n\nevent: bye\nid: 9": "data: x\ndata: \ndata: event: bye\ndata: id: 9",
		"x\r\rid: 1-1\r\r":       "data: x\ndata: \ndata: id: 1-1\ndata: \ndata: ",
		"\u2028\u0085\v\f":       "data: \u2028\u0085\v\f", // not line ends in an event stream
	} {
		f := frame(&store.Message{Group: "a", Time: at, Msg: store.AppendQuote(nil, text)}, store.ID{Epoch: "e", Seq: 1})
		if got := string(f.AppendRaw(nil)); got != "id: e-1\n"+want+"\n\n" {
			t.Errorf("%q is\n%q, want\n%q", text, got, want)
		}
	}
}

func TestAFrameExpiresToTheMillisecond(t *testing.T) {
	m := store.Message{Group: "a", Time: at, Expires: at.Add(time.Second), Retain: true, Base64: true, UID: uid, Msg: []byte(`""`)}
	f := frame(&m, store.ID{Epoch: "e", Seq: 1})
	end := at.Add(time.Second).Truncate(time.Millisecond)
	for _, c := range []struct {
		now  time.Time
		want bool
	}{{at, false}, {end.Add(-time.Millisecond), false}, {end.Add(-1), false}, {end, true}, {end.Add(time.Hour), true}} {
		if f.Expired(c.now) != c.want {
			t.Errorf("at %v expired: %v; it expires at %v", c.now, !c.want, end)
		}
	}
	m.Expires = time.Time{}
	if frame(&m, store.ID{Epoch: "e", Seq: 1}).Expired(at.AddDate(1000, 0, 0)) {
		t.Error("a message without expiry expired")
	}
}

// event is an event as a listener gets it.
type event struct {
	id    string
	hasID bool
	name  string
	data  string
}

// events parses an event stream as in WHATWG HTML, 9.2.6.
func events(stream string) (out []event) {
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	var e event
	var data []string
	for line := range strings.SplitSeq(strings.TrimSuffix(stream, "\n"), "\n") {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			e.data = strings.Join(data, "\n")
			out = append(out, e)
			e, data = event{}, nil
		case field == "id":
			e.id, e.hasID = value, true
		case field == "event":
			e.name = value
		case field == "data":
			data = append(data, value)
		default:
			e.name = "not a field: " + line
		}
	}
	return out
}

// lines replaces all line ends of a text with LF.
func lines(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

// FuzzFrame checks frames with encoding/json and the parser above.
func FuzzFrame(f *testing.F) {
	f.Add("foo", "", "person joined", false, byte(16), uint64(1))
	f.Add("a/\"b\"", "alarm", "x\r\n\r\nevent: bye\ndata: y\n\n", false, byte(7), uint64(1042))
	f.Add("é/$", "a \\ \t b", `{"a": [1, "\u00e9\ud83d\ude00\ud800 \/\b\f"]}`, true, byte(31), uint64(1<<63))
	f.Add("a", "", `"\ud800\ud800\udc00\n\r\u0000"`, true, byte(2), uint64(9))
	f.Fuzz(func(t *testing.T, group, name, payload string, isJSON bool, flags byte, seq uint64) {
		m := store.Message{
			Group: strings.ToValidUTF8(group, "?"), Time: at, Retain: flags&1 != 0, Base64: flags&2 != 0,
			Event: strings.NewReplacer("\r", "", "\n", "").Replace(strings.ToValidUTF8(name, "?")),
		}
		payload = strings.ToValidUTF8(payload, "?")
		if isJSON {
			var v json.RawMessage
			if json.Unmarshal([]byte(payload), &v) != nil {
				return
			}
			m.Msg, _ = json.Marshal(v) // compact
		} else {
			m.Msg = store.AppendQuote(nil, payload)
		}
		if flags&4 != 0 {
			m.UID = uid
		}
		if flags&8 != 0 {
			m.Expires = at.Add(time.Duration(flags) * time.Hour)
		}
		if flags&16 != 0 {
			m.Meta = [][2]string{{m.Group, payload}, {"", m.Event}}[:1+flags>>5&1]
		}
		id := store.ID{Epoch: "4k7q9x", Seq: store.Seq(seq)}
		e := m.Entry(nil)
		if n := len(frame(&m, id).Bytes); n != e.FrameLen(id) {
			t.Errorf("FrameLen is %d, the frame has %d", e.FrameLen(id), n)
		}
		checkFrame(t, &m, frame(&m, id), id)
	})
}

func checkFrame(t *testing.T, m *store.Message, f *store.Frame, id store.ID) {
	t.Helper()
	want := map[string]any{"id": id.String(), "group": m.Group, "time": string(store.AppendTime(nil, m.Time))}
	if m.Event != "" {
		want["event"] = m.Event
	}
	if len(m.Meta) > 0 {
		var list []any
		for _, p := range m.Meta {
			list = append(list, []any{p[0], p[1]})
		}
		want["meta"] = list
	}
	if m.UID != "" {
		want["uid"] = m.UID
	}
	if !m.Expires.IsZero() {
		want["expires"] = string(store.AppendTime(nil, m.Expires))
	}
	if m.Retain {
		want["retain"] = true
	}
	if m.Base64 {
		want["encoding"] = "base64"
	}
	want["msg"] = decode(t, m.Msg)
	payload := string(m.Msg)
	if s, ok := want["msg"].(string); ok {
		payload = lines(s)
	}
	one(t, f.Bytes, event{id.String(), true, m.Event, string(f.Data())})
	if got := decode(t, f.Data()); !reflect.DeepEqual(got, any(want)) {
		t.Errorf("data is\n%v, want\n%v", got, want)
	}
	one(t, f.AppendRaw(nil), event{id.String(), true, m.Event, payload})
	one(t, f.AppendRetained(nil, true), event{"", false, m.Event, payload})
	want["retained"] = true
	got := events(string(f.AppendRetained(nil, false)))
	if len(got) != 1 || got[0].hasID || !reflect.DeepEqual(decode(t, []byte(got[0].data)), any(want)) {
		t.Errorf("retained: %+v, want %v", got, want)
	}
	if string(f.ID()) != id.String() || string(f.UID()) != m.UID || string(f.JSON()) != string(m.Msg) {
		t.Errorf("id %s, uid %s, msg %s of %+v", f.ID(), f.UID(), f.JSON(), m)
	}
	if !slices.Equal(f.Meta(), m.Meta) {
		t.Errorf("the metadata %q is %q", m.Meta, f.Meta())
	}
	if !f.Expires().Equal(m.Expires.Truncate(time.Millisecond)) {
		t.Errorf("expires at %v, not %v", f.Expires(), m.Expires)
	}
	if f.Expired(m.Expires) == m.Expires.IsZero() || f.Expired(m.Time) {
		t.Errorf("expires at %v: now %v, then %v", m.Expires, f.Expired(m.Time), f.Expired(m.Expires))
	}
}

func decode(t *testing.T, b []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return v
}

// one fails unless the bytes are exactly the wanted event.
func one(t *testing.T, b []byte, want event) {
	t.Helper()
	if got := events(string(b)); !slices.Equal(got, []event{want}) {
		t.Errorf("%q\nis parsed as %+v, want %+v", b, got, want)
	}
}

func TestADamagedFrameHasNoMetadata(t *testing.T) {
	m := store.Message{Group: "foo", Event: "e", Time: at, Meta: [][2]string{{"a", `"1\`}, {"b", "2"}}, Msg: []byte("1")}
	whole := frame(&m, store.ID{Epoch: "e", Seq: 1})
	begin, end := strings.Index(string(whole.Bytes), "{"), strings.Index(string(whole.Bytes), `,"time"`)
	for from := begin; from < end; from++ {
		f := *whole
		f.Bytes = slices.Concat(whole.Bytes[:from], []byte("x\n\n"))
		if meta := f.Meta(); meta != nil {
			t.Errorf("%q has the metadata %q", f.Bytes, meta)
		}
	}
}
