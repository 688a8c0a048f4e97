package cursor

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/watchbox-go/watchbox/store"
)

// drawn returns any position.
func drawn(t *rapid.T) Position {
	text := rapid.SliceOfN(rapid.Byte(), 0, 20)
	p := Position{
		Key: "k", Epoch: string(text.Draw(t, "epoch")), Data: text.Draw(t, "data"),
		Done:   store.Seq(rapid.Uint64().Draw(t, "done")),
		Expiry: time.Duration(rapid.Int64Range(-1, 1e12).Draw(t, "expiry")) * time.Millisecond,
	}
	if p.Expiry < 0 {
		p.Expiry = ForEver
	}
	p.Read = p.Done + store.Seq(rapid.Uint32().Draw(t, "read"))
	if away := rapid.Int64Range(0, 1e13).Draw(t, "away"); away > 0 {
		p.Away = time.UnixMilli(away)
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "filters") {
		p.Filters = append(p.Filters, Filter{fmt.Sprint("a/", i), text.Draw(t, "options")})
	}
	for range rapid.IntRange(0, 70).Draw(t, "window") {
		p.Window = append(p.Window, Unacked{store.Seq(rapid.Uint64().Draw(t, "seq")), rapid.Uint16().Draw(t, "tag"), rapid.Byte().Draw(t, "state")})
	}
	return p
}

func TestAnyPositionIsTheSameAfterItsEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, hub := drawn(t), rapid.String().Draw(t, "hub")
		b := p.append(nil, hub)
		got, by, err := decode("k", b)
		if err != nil || by != hub || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", p) || holder(b) != hub {
			t.Errorf("%+v of %q became %+v of %q, %v", p, hub, got, by, err)
		}
	})
}

func FuzzAStoredPositionMayBeAnything(f *testing.F) {
	p := Position{Epoch: "e", Done: 5, Read: 9, Filters: []Filter{{"a/#", []byte{1}}}, Window: []Unacked{{6, 1, 1}}, Data: []byte("data")}
	f.Add(p.append(nil, "hub"))
	f.Add([]byte{})
	f.Add([]byte{2})
	f.Add([]byte{1, 0, 0, 1, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, _, err := decode("k", b)
		if err != nil {
			return
		}
		if size := len(p.Filters)*2 + len(p.Window)*3; size > len(b) {
			t.Errorf("%d bytes became %+v", len(b), p)
		}
	})
}

func TestAPartOfAStoredPositionIsCorrupt(t *testing.T) {
	p := Position{Epoch: "e", Done: 5, Read: 9, Filters: []Filter{{"a/#", []byte{1}}}, Window: []Unacked{{6, 1, 1}}}
	whole := p.append(nil, "hub")
	s := New(Options{})
	for n := range whole {
		err := s.Learn(store.Note{Key: Prefix + "k", Value: whole[:n]})
		if !errors.Is(err, errCorrupt) {
			t.Errorf("%d bytes of %d: %v", n, len(whole), err)
		}
	}
	if n, _ := s.Usage(); n != 0 {
		t.Errorf("%d positions were learned", n)
	}
}
