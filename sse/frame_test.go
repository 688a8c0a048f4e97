package sse

import (
	"net/http"
	"testing"
)

func TestAppendEvent(t *testing.T) {
	for _, test := range []struct{ name, id, data, want string }{
		{"", "", "", "data: \n\n"},
		{"", "", "a", "data: a\n\n"},
		{"", "7", " a", "id: 7\ndata:  a\n\n"},
		{"gap", "", "a", "event: gap\ndata: a\n\n"},
		{"gap", "7", "a\nb\r\nc\rd", "event: gap\nid: 7\ndata: a\ndata: b\ndata: c\ndata: d\n\n"},
		{"", "", "a\n\r\n", "data: a\ndata: \ndata: \n\n"},
		{"", "", "\nid: 9\n\nevent: x", "data: \ndata: id: 9\ndata: \ndata: event: x\n\n"}, // nothing is injected
	} {
		if got := string(AppendEvent([]byte("before"), test.name, test.id, []byte(test.data))); got != "before"+test.want {
			t.Errorf("AppendEvent(%q, %q, %q) = %q, want %q", test.name, test.id, test.data, got, test.want)
		}
	}
}

func TestAHeartbeatSetsTheIDAndFiresNoEvent(t *testing.T) {
	beat := AppendHeartbeat(nil, "a-7")
	if want := ":\nid: a-7\n\n"; string(beat) != want {
		t.Errorf("AppendHeartbeat = %q, want %q", beat, want)
	}
	if got, want := transcript(beat, 0), "comment \"\"\nid \"a-7\"\n"; got != want {
		t.Errorf("a heartbeat reads as\n%swant\n%s", got, want)
	}
}

func TestValidField(t *testing.T) {
	for s, want := range map[string]bool{
		"": true, "a-1": true, "é ": true, ":": true, "a\nb": false, "a\rb": false, "a\x00b": false,
	} {
		if got := ValidField(s); got != want {
			t.Errorf("ValidField(%q) = %v, want %v", s, got, want)
		}
	}
}

func TestSetHeader(t *testing.T) {
	h := http.Header{"X-Other": {"stays"}}
	SetHeader(h)
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no", "X-Other": "stays",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
