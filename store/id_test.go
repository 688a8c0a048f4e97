package store_test

import (
	"math"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/store"
)

func TestParseIDAcceptsTheOutputOfString(t *testing.T) {
	for _, id := range []store.ID{
		{Epoch: "4k7q9x", Seq: 1042}, {Epoch: "a", Seq: 0}, {Epoch: "0123456789abcdef", Seq: math.MaxUint64},
		{Epoch: store.NewEpoch(), Seq: 1},
	} {
		if got, err := store.ParseID(id.String()); err != nil || got != id {
			t.Errorf("%v: %v, %v", id, got, err)
		}
	}
}

func TestParseIDRejectsAllOtherTexts(t *testing.T) {
	for _, s := range []string{
		"", "-", "a", "a-", "-1", "a-1-2", "a--1", "a-+1", "a-01", "a-1 ", " a-1", "a-0x1", "a-1_0", "A-1", "é-1",
		"a b-1", "a-18446744073709551616", "0123456789abcdefg-1", "a-1\n", "a\x00-1",
	} {
		if id, err := store.ParseID(s); err == nil || id != (store.ID{}) {
			t.Errorf("%q is %v, %v", s, id, err)
		}
	}
}

func TestEpochsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		e := store.NewEpoch()
		if len(e) != 6 || seen[e] {
			t.Fatalf("%q, again: %v", e, seen[e])
		}
		seen[e] = true
	}
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"4k7q9x-1042", "a-0", "a-01", "-1", "a-18446744073709551616", "é-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := store.ParseID(s)
		switch {
		case err == nil && id.String() != s:
			t.Errorf("%q is parsed as %q", s, id)
		case err == nil && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
			t.Errorf("%q is accepted, but needs a CORS preflight", s)
		case err != nil && (len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\r\n")):
			t.Errorf("%q: %v", s, err)
		}
	})
}
