package sse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// transcript returns the items that a Reader reads from a stream, one a line.
func transcript(stream []byte, maxEventSize int) string {
	return transcribe(bytes.NewReader(stream), maxEventSize)
}

func transcribe(src io.Reader, maxEventSize int) string {
	var b strings.Builder
	r := NewReader(src)
	r.MaxEventSize = maxEventSize
	for {
		it, err := r.next()
		if err != nil {
			if err != io.EOF {
				fmt.Fprintln(&b, "error", err)
			}
			return b.String()
		}
		switch it.kind {
		case itemEvent:
			fmt.Fprintf(&b, "%s %q %q\n", it.Type, it.ID, it.Data)
		case itemTooLarge:
			fmt.Fprintf(&b, "too large: %.20s %.20q\n", it.Type, it.ID)
		case itemComment:
			fmt.Fprintf(&b, "comment %q\n", it.Data)
		case itemRetry:
			fmt.Fprintln(&b, "retry", it.retry)
		case itemID:
			fmt.Fprintf(&b, "id %q\n", it.ID)
		}
	}
}

// readerTests has examples of WHATWG HTML, 9.2.5 and 9.2.6. Those from web-platform-tests' eventsource/ keep
// their names.
var readerTests = []struct{ promise, stream, want string }{
	{"an event", "data: a\n\n", `message "" "a"`},
	{"nothing", "", ``},
	{"blank lines alone fire nothing", "\n\n\r\n\r\r\n", ``},

	{"UTF-8 is unchanged", "data: ä€😀\n\n", `message "" "ä€😀"`},
	{"bytes that are not UTF-8 become U+FFFD", "data: a\xffb\xc3\n\n", `message "" "a�b�"`},
	{"each maximal part of a character becomes one U+FFFD", "data: \xe2\x82|\xf0\x9f\x98|\xed\xa0\x80|\xc0\xaf|\xf4\x90\n\n",
		`message "" "�|�|���|��|��"`},
	{"names are decoded too", "event: \xff\nid: \xfe\ndata\n\n", `� "�" ""`},

	{"format-bom: one BOM is dropped", "\uFEFFdata: a\n\n", `message "" "a"`},
	{"format-bom-2: a second one belongs to the field's name", "\uFEFF\uFEFFdata: a\n\ndata: b\n\n", `message "" "b"`},
	{"a later BOM belongs to the field's name", "data: a\n\uFEFFdata: b\n\n", `message "" "a"`},
	{"a BOM in data stays", "data: \uFEFFa\n\n", `message "" "\ufeffa"`},
	{"an incomplete BOM is part of the name", "\xef\xbbdata: a\n\ndata: b\n\n", `message "" "b"`},
	{"a BOM before a comment", "\uFEFF:a\n\n", `comment "a"`},
	{"a BOM alone", "\uFEFF", ``},

	{"lines end with LF", "data: a\ndata: b\n\n", `message "" "a\nb"`},
	{"with CR", "data: a\rdata: b\r\r", `message "" "a\nb"`},
	{"with CRLF", "data: a\r\ndata: b\r\n\r\n", `message "" "a\nb"`},
	{"LF, CR is two ends", "data: a\n\rdata: b\n\r", `message "" "a"|message "" "b"`},
	{"CRLF, CR is two ends", "data: a\r\n\rdata: b\r\n\r", `message "" "a"|message "" "b"`},
	{"CR, CRLF is two ends", "data: a\r\r\ndata: b\r\r\n", `message "" "a"|message "" "b"`},
	{"LF, CRLF is two ends", "data: a\n\r\ndata: b\n\r\n", `message "" "a"|message "" "b"`},
	{"other white space does not end a line", "data: a\v\f\u0085\u2028b\n\n", `message "" "a\v\f\u0085\u2028b"`},

	{"format-comments", "data:1\r:\x00\n:\r\ndata:2\n:data:3\rdata:4\n\n",
		`comment "\x00"|comment ""|comment "data:3"|message "" "1\n2\n4"`},
	{"a comment within an event comes before it", "id: 7\n: a\ndata: b\n\n", `comment " a"|message "7" "b"`},
	{"a comment between events", "data: a\n\n:\n\ndata: b\n\n", `message "" "a"|comment ""|message "" "b"`},

	{"a field is split at its first colon", "data:a:b\n\n", `message "" "a:b"`},
	{"one space is removed", "data:  a\n\n", `message "" " a"`},
	{"a tab stays", "data:\ta \n\n", `message "" "\ta "`},
	{"format-field-data: a line without a colon is a name", "data\n\ndata\ndata\n\ndata:test\n\n",
		`message "" ""|message "" "\n"|message "" "test"`},
	{"data: alone is an empty event", "data:\n\n", `message "" ""`},
	{"format-field-parsing: names are taken to the letter",
		"data:\x00\ndata:  2\rData:1\ndata\x00:2\ndata:1\r\x00data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
		`message "" "\x00\n 2\n1\n3\n\n4"`},
	{"format-field-unknown: other fields are ignored", "data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n",
		`comment "thisisacommentyay"|message "" "test\n\ntest"`},
	{"format-null-character: NUL in data stays", "data:\x00\n\n\n\n", `message "" "\x00"`},

	{"format-field-event: a type is for one event", "event:test\ndata:x\n\ndata:x\n\n", `test "" "x"|message "" "x"`},
	{"format-field-event-empty: no type is message", "event: \ndata:data\n\n", `message "" "data"`},
	{"the last type counts", "event: a\nevent: b\ndata\n\n", `b "" ""`},
	{"the last type counts even if it is empty", "event: a\nevent\ndata\n\n", `message "" ""`},
	{"a type without data fires nothing and is forgotten", "event: a\n\ndata: b\n\n", `message "" "b"`},

	{"format-field-id: an id stays", "id: 1\ndata: a\n\ndata: b\n\n", `message "1" "a"|message "1" "b"`},
	{"an empty id resets it", "id: 1\ndata: a\n\nid\ndata: b\n\n", `message "1" "a"|message "" "b"`},
	{"an id without data fires nothing and counts", "id: 1\n\ndata: a\n\n", `id "1"|message "1" "a"`},
	{"the same id again gives no item", "id: 1\n\nid: 1\n\nid: 2\n\n", `id "1"|id "2"`},
	{"the last id counts", "id: 1\nid: 2\ndata\n\n", `message "2" ""`},
	{"format-field-id-null: an id with NUL is ignored", "id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", `message "1" "a"|message "1" "b"`},
	{"an id may be blanks and colons", "id:  a: b \ndata\n\n", `message " a: b " ""`},

	{"format-field-retry", "retry:03000\ndata:x\n\n", `retry 3s|message "" "x"`},
	{"format-field-retry-bogus", "retry:3000\nretry:1000x\nretry: -1\nretry: 1.5\nretry: +1\nretry:  1\nretry:1 \ndata:x\n\n",
		`retry 3s|message "" "x"`},
	{"format-field-retry-empty", "retry\nretry:\ndata:x\n\n", `message "" "x"`},
	{"retry needs no event around it", "retry: 0\n", `retry 0s`},
	{"only ASCII digits count", "retry: ١\n\n", ``},
	{"a retry that is too long becomes the longest duration", "retry: 99999999999999999999999\n", `retry 2562047h47m16.854s`},

	{"format-data-before-final-empty-line: an incomplete event is dropped", "id: 1\nretry:1000\ndata:x\n\nid: 2\ndata: y\n",
		`retry 1s|message "1" "x"`},
	{"an incomplete line is dropped", "data: a\n\n: a", `message "" "a"`},
}

func TestReader(t *testing.T) {
	for _, test := range readerTests {
		t.Run(test.promise, func(t *testing.T) {
			want := lines(test.want)
			if got := transcript([]byte(test.stream), 0); got != want {
				t.Errorf("%q reads as\n%swant\n%s", test.stream, got, want)
			}
			for cut := range len(test.stream) {
				a, b := strings.NewReader(test.stream[:cut]), strings.NewReader(test.stream[cut:])
				if got := transcribe(io.MultiReader(a, b), 0); got != want {
					t.Errorf("%q and %q read as\n%swant\n%s", test.stream[:cut], test.stream[cut:], got, want)
				}
			}
			for name, cut := range cuttings {
				if got := transcribe(cut(strings.NewReader(test.stream)), 0); got != want {
					t.Errorf("%q, %s, reads as\n%swant\n%s", test.stream, name, got, want)
				}
			}
		})
	}
}

// lines replaces each bar before one of the words with a line break.
func lines(s string) string {
	if s == "" {
		return ""
	}
	for _, word := range []string{"message", "comment", "retry", "id", "test", "too large"} {
		s = strings.ReplaceAll(s, "|"+word+" ", "\n"+word+" ")
	}
	return s + "\n"
}

// cuttings are ways in which a network may divide a stream into reads.
var cuttings = map[string]func(io.Reader) io.Reader{
	"byte by byte":               iotest.OneByteReader,
	"by halves":                  iotest.HalfReader,
	"with the end in the data":   iotest.DataErrReader,
	"byte by byte, end included": func(r io.Reader) io.Reader { return iotest.DataErrReader(iotest.OneByteReader(r)) },
}

// stepReader returns one part of a stream for each Read. It fails the test if Read is called after the last.
type stepReader struct {
	t     *testing.T
	parts []string
}

func (s *stepReader) Read(p []byte) (int, error) {
	if len(s.parts) == 0 {
		s.t.Fatal("the Reader waits for bytes that it does not need")
	}
	n := copy(p, s.parts[0])
	s.parts = s.parts[1:]
	return n, nil
}

func TestReaderReturnsAnEventAfterItsLastByte(t *testing.T) {
	for _, end := range []string{"\n\n", "\r\r", "\r\n\r", "\n\r", "\r\n\n"} {
		r := NewReader(&stepReader{t: t, parts: []string{"data: a" + end}})
		if ev, err := r.Read(); err != nil || string(ev.Data) != "a" {
			t.Errorf("ended by %q: %q, %v", end, ev.Data, err)
		}
	}
}

func TestReaderDropsAnLFAfterACRAcrossReads(t *testing.T) {
	r := NewReader(&stepReader{t: t, parts: []string{"data: a\r\n\r", "\ndata: b\r", "\n\r"}})
	for _, want := range []string{"a", "b"} {
		if ev, err := r.Read(); err != nil || string(ev.Data) != want {
			t.Errorf("%q, %v, want %q", ev.Data, err, want)
		}
	}
}

func TestReaderResumesAfterAnID(t *testing.T) {
	r := NewReader(strings.NewReader("data: a\n\nid: 8\ndata: b\n\nid: 9\ndata: c\n"))
	r.LastEventID = "7"
	for _, want := range []string{"7", "8"} {
		if ev, err := r.Read(); err != nil || ev.ID != want || r.LastEventID != want {
			t.Errorf("an event of id %q, LastEventID %q, %v, want %q", ev.ID, r.LastEventID, err, want)
		}
	}
	if _, err := r.Read(); err != io.EOF || r.LastEventID != "8" {
		t.Errorf("at the end: LastEventID %q, %v, want that of the last whole block", r.LastEventID, err)
	}
}

func TestReaderCallsBackInWireOrder(t *testing.T) {
	var got []string
	r := NewReader(strings.NewReader(": 1\nretry: 2\ndata: 3\n\n: 4\ndata: 5\n\n"))
	r.OnComment = func(s string) { got = append(got, s) }
	r.OnRetry = func(d time.Duration) { got = append(got, d.String()) }
	for ev, err := range r.All() {
		got = append(got, string(ev.Data))
		if err != nil {
			t.Error(err)
		}
	}
	if got, want := strings.Join(got, ","), " 1,2ms,3, 4,5"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestReaderReturnsTheErrorOfItsSource(t *testing.T) {
	broken := errors.New("broken")
	r := NewReader(io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(broken)))
	var got []string
	for ev, err := range r.All() {
		got = append(got, fmt.Sprintf("%s %v", ev.Data, err))
	}
	if got, want := strings.Join(got, ","), "a <nil>, broken"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := r.Read(); err != broken {
		t.Errorf("the next Read: %v, want the same error", err)
	}
	if _, err := NewReader(emptyReader{}).Read(); err != io.ErrNoProgress {
		t.Errorf("a source that gives nothing: %v, want %v", err, io.ErrNoProgress)
	}
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

func TestReaderAllReadsNoMoreAfterABreak(t *testing.T) {
	r := NewReader(strings.NewReader("data: a\n\ndata: b\n\n"))
	for range r.All() {
		break
	}
	if ev, err := r.Read(); err != nil || string(ev.Data) != "b" {
		t.Errorf("then there is %q, %v, want the second event", ev.Data, err)
	}
}

func TestReaderSkipsEventsThatAreTooLarge(t *testing.T) {
	const most = 10
	for _, test := range []struct{ promise, stream, want string }{
		{"data of the size", "data: 0123456789\n\n", `message "" "0123456789"`},
		{"data in lines of the size", "data: 01234\ndata: 6789\n\n", `message "" "01234\n6789"`},
		{"data in one line", "id: 7\nevent: e\ndata: 01234567890\n\ndata: b\n\n", "too large: e \"7\"|message \"7\" \"b\""},
		{"data in lines", "data: 01234\ndata: 67890\n\ndata: b\n\n", "too large: message \"\"|message \"\" \"b\""},
		{"data in empty lines", strings.Repeat("data\n", 12) + "\ndata: b\n\n", "too large: message \"\"|message \"\" \"b\""},
		{"small data behind it is skipped with it", "data: 01234567890\ndata: 1\n\ndata: b\n\n", "too large: message \"\"|message \"\" \"b\""},
		{"the id behind it counts", "data: 01234567890\nid: 7\n\n", "too large: message \"7\""},
		{"a type", "event: 01234567890\ndata: a\n\n", "too large: message \"\""},
		{"an id, which does not count", "id: 01234567890\ndata: a\n\n", "too large: message \"\""},
		{"an unknown field does not matter", "other: " + strings.Repeat("x", 100) + "\ndata: a\n\n", `message "" "a"`},
		{"a retry is none", "retry: 1" + strings.Repeat("0", 100) + "\n", ``},
		{"a comment is cut", ":" + strings.Repeat("c", 100) + "\n", `comment "` + strings.Repeat("c", most+15) + `"`},
		{"bytes that become longer", "data: \xff\xff\xff\xff\n\ndata: \xff\xff\xff\n\n", "too large: message \"\"|message \"\" \"���\""},
	} {
		for name, cut := range cuttings {
			if got := transcribe(cut(strings.NewReader(test.stream)), most); got != lines(test.want) {
				t.Errorf("%s, %s: %q reads as\n%swant\n%s", test.promise, name, test.stream, got, lines(test.want))
			}
		}
	}
}

func TestReaderReportsTheIDAndTypeOfAnEventThatIsTooLarge(t *testing.T) {
	r := NewReader(strings.NewReader("id: 7\nevent: e\ndata: 12345\n\ndata: ok\n\n"))
	r.MaxEventSize = 4
	ev, err := r.Read()
	if !errors.Is(err, ErrEventTooLarge) || ev.ID != "7" || ev.Type != "e" || ev.Data != nil || r.LastEventID != "7" {
		t.Errorf("%+v, %v, LastEventID %q", ev, err, r.LastEventID)
	}
	if ev, err := r.Read(); err != nil || string(ev.Data) != "ok" {
		t.Errorf("then %q, %v", ev.Data, err)
	}
}

// endless repeats a block of bytes, up to a total number of bytes.
type endless struct {
	block []byte
	left  int
	at    int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), e.left)], e.block[e.at:])
	e.at = (e.at + n) % len(e.block)
	e.left -= n
	return n, nil
}

func TestReaderMemoryIsBounded(t *testing.T) {
	const most = 64 << 10
	for _, block := range []string{"x", "data: xxxx\n", "data\n", ":", "id: x", "event\xff"} {
		r := NewReader(&endless{block: bytes.Repeat([]byte(block), 4096), left: 64 * most})
		r.MaxEventSize = most
		for _, err := range r.All() {
			if err != nil && !errors.Is(err, ErrEventTooLarge) {
				t.Errorf("%q: %v", block, err)
			}
		}
		if held := cap(r.line) + cap(r.data) + len(r.id) + len(r.typ); held > 4*most {
			t.Errorf("%q for ever: %d bytes are held, with events of %d bytes at most", block, held, most)
		}
	}
}

// BenchmarkReader shows that the time is linear: the figures are the same for all sizes of events and lines.
func BenchmarkReader(b *testing.B) {
	for _, size := range []int{64, 4 << 10, 1 << 20, 8 << 20} {
		for _, lineLength := range []int{16, 1 << 30} {
			event := AppendEvent(nil, "", "4k7q9x-1042", wrap(bytes.Repeat([]byte("x"), size), lineLength))
			for _, end := range []string{"\n", "\r"} {
				stream := bytes.ReplaceAll(event, []byte("\n"), []byte(end))
				b.Run(fmt.Sprintf("%dB/line=%d/%q", size, min(lineLength, size), end), func(b *testing.B) {
					b.SetBytes(int64(len(stream)))
					b.ReportAllocs()
					r := NewReader(&endless{block: stream, left: b.N * len(stream)})
					n := 0
					for _, err := range r.All() {
						if n++; err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

func wrap(data []byte, length int) []byte {
	var b bytes.Buffer
	for len(data) > length {
		b.Write(data[:length])
		b.WriteByte('\n')
		data = data[length:]
	}
	b.Write(data)
	return b.Bytes()
}
