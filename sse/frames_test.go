package sse

import (
	"bytes"
	"io"
	"math"
	"testing"

	r3labs "github.com/r3labs/sse/v2"
)

// checkFrame fails the test unless the engine's own reader finds one block in an item's frame, and
// its fields give the item again.
func checkFrame(t *testing.T, it item) {
	t.Helper()
	frame := appendFrame(nil, it)
	blocks := r3labs.NewEventStreamReader(bytes.NewReader(frame), math.MaxInt)
	block, err := blocks.ReadEvent()
	if err != nil {
		t.Fatalf("%q: %v", frame, err)
	}
	if _, err := blocks.ReadEvent(); err != io.EOF {
		t.Errorf("%q is more than one block", frame)
	}
	fields := map[string][]byte{}
	for line := range bytes.SplitSeq(block, []byte("\n")) {
		name, value, _ := bytes.Cut(line, []byte(": "))
		fields[string(name)] = value
	}
	got := unframe(fields["event"], fields["id"], bytes.Clone(fields["data"]), fields["retry"])
	if got.kind != it.kind || got.ID != it.ID || got.Type != it.Type || got.retry != it.retry || !bytes.Equal(got.Data, it.Data) {
		t.Errorf("%+v becomes %+v", it, got)
	}
}

func TestEachReadGivesOneFrame(t *testing.T) {
	r := NewReader(bytes.NewReader([]byte(":c\ndata: a\n\nretry: 5\ndata: b\n\n")))
	f := &frames{reader: r, failed: func(error) {}}
	for _, want := range []string{
		"event: c\nid: =\ndata: c\n\n",
		"event: emessage\nid: =\ndata: a\n\n",
		"event: r\nid: =\nretry: 5\ndata: \n\n",
		"event: emessage\nid: =\ndata: b\n\n",
	} {
		p := make([]byte, 4096)
		if n, err := f.Read(p); err != nil || string(p[:n]) != want {
			t.Errorf("%q, %v, want %q", p[:n], err, want)
		}
	}
}
