package sse

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// cutReader divides a stream into reads whose lengths are given by sizes, in turn.
type cutReader struct {
	src   io.Reader
	sizes []byte
	i     int
}

func (c *cutReader) Read(p []byte) (int, error) {
	if len(c.sizes) == 0 {
		return c.src.Read(p)
	}
	n := 1 + int(c.sizes[c.i%len(c.sizes)])%64
	c.i++
	return c.src.Read(p[:min(n, len(p))])
}

// FuzzReader checks that a stream reads the same regardless of how the network divides it.
func FuzzReader(f *testing.F) {
	for _, test := range readerTests {
		f.Add([]byte(test.stream), []byte{0}, uint16(0))
		f.Add([]byte(test.stream), []byte{2, 0, 7}, uint16(4))
	}
	f.Fuzz(func(t *testing.T, stream, cuts []byte, most uint16) {
		want := transcript(stream, int(most))
		if got := transcribe(&cutReader{src: bytes.NewReader(stream), sizes: cuts}, int(most)); got != want {
			t.Errorf("%q, cut by %v, reads as\n%swant\n%s", stream, cuts, got, want)
		}
		if got, most := len(want), 100+8*len(stream); got > 8*most {
			t.Errorf("%q: the transcript of %d bytes has %d", stream, len(stream), got)
		}
	})
}

// FuzzRoundTrip checks that a Reader reads the events that AppendEvent writes.
func FuzzRoundTrip(f *testing.F) {
	f.Add("", "", []byte(""))
	f.Add("gap", "4k7q9x-1042", []byte("a\nb\r\nc\rd\xff\x00\n"))
	f.Add("\uFEFF", " ", []byte("\uFEFF: a\n\r"))
	f.Fuzz(func(t *testing.T, name, id string, data []byte) { roundTrip(t, name, id, data) })
}

func TestRoundTrip(t *testing.T) {
	field := rapid.Map(rapid.String(), func(s string) string { return strings.Map(validRune, s) })
	data := rapid.SliceOf(rapid.OneOf(rapid.SampledFrom([]byte("\r\n: \x00\xff\xef")), rapid.Byte()))
	rapid.Check(t, func(r *rapid.T) {
		roundTrip(r, field.Draw(r, "name"), field.Draw(r, "id"), data.Draw(r, "data"))
	})
}

func validRune(c rune) rune {
	if ValidField(string(c)) {
		return c
	}
	return -1
}

func roundTrip(t interface{ Errorf(string, ...any) }, name, id string, data []byte) {
	if !ValidField(name) || !ValidField(id) {
		return
	}
	stream := AppendEvent(AppendEvent(nil, name, id, data), "", "", []byte("next"))
	want := Event{ID: decoded(id), Type: decoded(name), Data: []byte(newlines.Replace(decoded(string(data))))}
	if want.Type == "" {
		want.Type = "message"
	}
	r := NewReader(bytes.NewReader(stream))
	ev, err := r.Read()
	if err != nil || ev.ID != want.ID || ev.Type != want.Type || !bytes.Equal(ev.Data, want.Data) {
		t.Errorf("%q reads as %+v, %v, want %+v", stream, ev, err, want)
	}
	if ev, err = r.Read(); err != nil || ev.Type != "message" || string(ev.Data) != "next" {
		t.Errorf("%q: the next event is %+v, %v", stream, ev, err)
	}
	if _, err = r.Read(); err != io.EOF {
		t.Errorf("%q: at the end: %v, want io.EOF", stream, err)
	}
}

var newlines = strings.NewReplacer("\r\n", "\n", "\r", "\n")

func decoded(s string) string { return string(decodeUTF8([]byte(s))) }

// FuzzFrame checks that each item survives its encoding as a frame.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("id: 1\nevent: e\ndata: a\ndata:\n\n:c\nretry: 5\nid\n\n"))
	for _, test := range readerTests {
		f.Add([]byte(test.stream))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := NewReader(bytes.NewReader(stream))
		for {
			it, err := r.next()
			if err != nil {
				return
			}
			checkFrame(t, it)
		}
	})
}
