package store_test

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/watchbox-go/watchbox/store"
)

func TestUnquoteReversesAppendQuote(t *testing.T) {
	all := ""
	for r := range rune(0x300) {
		all += string(r)
	}
	for _, s := range []string{"", "plain", all, "\u2028\u2029\ufeff", "😀", `\"\\`, "</script>"} {
		quoted := store.AppendQuote([]byte("x"), s)[1:]
		var back string
		if err := json.Unmarshal(quoted, &back); err != nil || back != s {
			t.Errorf("%q is quoted as %s: %v", s, quoted, err)
		}
		if got := string(store.Unquote([]byte("x"), quoted)); got != "x"+s {
			t.Errorf("%s is unquoted as %q", quoted, got)
		}
	}
}

func TestUnquoteAgreesWithEncodingJSON(t *testing.T) {
	for _, s := range []string{
		`"\b\f\n\r\t\/\\\""`, `"\u0041\u00e9\u20ac"`, `"\ud83d\ude00"`, `"\uD83D\uDE00"`, `"\ud83d"`, `"\ude00"`,
		`"\ud83dx"`, `"\ud83d\u0041"`, `"\ud83d\ud83d\ude00"`, `"\ud83d\n"`, `"\u0000"`,
	} {
		var want string
		if err := json.Unmarshal([]byte(s), &want); err != nil {
			t.Fatal(err)
		}
		if got := string(store.Unquote(nil, []byte(s))); got != want || !utf8.ValidString(got) {
			t.Errorf("%s is %q, want %q", s, got, want)
		}
	}
}

func TestAnEntryKeepsItsBuffer(t *testing.T) {
	buf := make([]byte, 0, 1000)
	m := store.Message{Group: "a", Time: at, Msg: []byte(`1`)}
	e := m.Entry(append(buf, "before"...))
	if &e.Tail[0] != &buf[:7][6] || string(e.Tail) != `"group":"a","time":"2026-03-04T04:06:07.008Z","msg":1}`+"\n\n" {
		t.Errorf("the tail is %q", e.Tail)
	}
}

func TestABatchHasRoomForAtLeastOneFrame(t *testing.T) {
	b := store.Batch{Buf: make([]byte, 0, 10)}
	if !b.Room(10) || cap(b.Buf) != 10 || !b.Room(11) || cap(b.Buf) < 11 {
		t.Errorf("an empty batch has %d bytes", cap(b.Buf))
	}
	b.Buf = append(b.Buf, 1)
	if !b.Room(cap(b.Buf)-1) || b.Room(cap(b.Buf)) {
		t.Error("a batch with one byte used has room for its capacity, or lacks room for the rest")
	}
}

func TestTimesAreRFC3339(t *testing.T) {
	for _, when := range []time.Time{
		at, time.Unix(0, 0), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		time.Date(2024, 2, 29, 23, 59, 59, 99_000_000, time.FixedZone("", -12*3600)),
	} {
		want := when.UTC().Format("2006-01-02T15:04:05.000Z")
		if got := string(store.AppendTime([]byte("x"), when)); got != "x"+want {
			t.Errorf("%v is %s, want %s", when, got, want)
		}
	}
}
