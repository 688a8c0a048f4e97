package jetstream

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/watchbox-go/watchbox/store"
)

func drawRecord(t *rapid.T) record {
	r := record{by: appendID{rapid.Uint64().Draw(t, "log"), rapid.Uint64().Draw(t, "number")}, index: rapid.IntRange(0, maxBatch).Draw(t, "index")}
	if rapid.Bool().Draw(t, "more") {
		r.flags |= hasMore
	}
	if rapid.Bool().Draw(t, "note") {
		r.flags |= isNote
		r.prev, r.version = store.Seq(rapid.Uint64().Draw(t, "prev")), rapid.Uint64().Draw(t, "version")
		r.key, r.value = rapid.String().Draw(t, "key"), []byte(rapid.String().Draw(t, "value"))
		return r
	}
	m := store.Message{
		Group: rapid.String().Draw(t, "group"), Event: rapid.String().Draw(t, "event"), UID: rapid.String().Draw(t, "uid"),
		Time:   time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "time")),
		Retain: rapid.Bool().Draw(t, "retain"), Clear: rapid.Bool().Draw(t, "clear"), Base64: rapid.Bool().Draw(t, "base64"),
		Msg: []byte(`"x"`),
	}
	if rapid.Bool().Draw(t, "expires") {
		m.Expires = m.Time.Add(time.Minute)
	}
	if rapid.Bool().Draw(t, "meta") {
		m.Meta = [][2]string{{"a", rapid.String().Draw(t, "value")}}
	}
	r.flags |= messageFlags(&m)
	r.entry = m.Entry(nil)
	r.entry.Message.Msg, r.entry.Message.Meta = nil, nil // not stored: they are in the tail
	for i := range rapid.IntRange(0, 3).Draw(t, "brief") {
		r.brief = append(r.brief, store.Note{Key: rapid.String().Draw(t, "brief key"), Value: []byte{byte(i)}})
	}
	return r
}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRecord(t)
		var got record
		if err := got.decode(want.encode(nil)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got\n%+v\nwant\n%+v", got, want)
		}
	})
}

func TestADamagedRecordIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRecord(t)
		b := r.encode(nil)
		switch at := rapid.IntRange(0, len(b)-1).Draw(t, "at"); rapid.IntRange(0, 1).Draw(t, "how") {
		case 0:
			b[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		case 1:
			b = b[:at]
		}
		if err := new(record).decode(b); !errors.Is(err, store.ErrCorrupt) {
			t.Fatalf("a damaged record: %v", err)
		}
	})
}

func TestThePositionOfAMessageIsReadFromItsReplySubject(t *testing.T) {
	for _, reply := range []string{
		"$JS.ACK.WATCHBOX.hub-1.1.42.7.1795867323923147641.3",
		"$JS.ACK._.ACCHASH.WATCHBOX.hub-1.1.42.7.1795867323923147641.3.x",
		"$JS.ACK.hub.ACCHASH.WATCHBOX.hub-1.1.42.7.1795867323923147641.3",
	} {
		if seq, number, pending, err := positionOf(reply); seq != 42 || number != 7 || pending != 3 || err != nil {
			t.Errorf("%s: %d, %d, %d, %v", reply, seq, number, pending, err)
		}
	}
	for _, reply := range []string{"", "$JS.ACK.", "$JS.ACK.a.b.c.d.e.f.g"} {
		if _, _, _, err := positionOf(reply); err == nil {
			t.Errorf("%q is taken for a position", reply)
		}
	}
}
