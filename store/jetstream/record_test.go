package jetstream

import (
	"encoding/hex"
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
		if rapid.Bool().Draw(t, "again") {
			r.flags |= isAgain
			r.prev, r.was = 0, r.prev
		}
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

// TestARecordWithoutMetadataHasTheBytesOfEarlierVersions: hubs of several versions may share a stream.
func TestARecordWithoutMetadataHasTheBytesOfEarlierVersions(t *testing.T) {
	m := store.Message{
		Group: "foo", Event: "e", UID: "7a4b4e2c-50d1-8a3e-9c0f-2b1f6d7c8e90", Time: time.UnixMilli(1_700_000_000_000), Retain: true, Msg: []byte("1"),
	}
	r := record{flags: messageFlags(&m), by: appendID{1, 2}, index: 3, entry: m.Entry(nil)}
	const want = "010801000000000000000200000000000000030080a0abfef9620003666f6f01652437613462346532632d353064312d386133652d396330662d326231663664376338653930007d2267726f7570223a22666f6f222c226576656e74223a2265222c22756964223a2237613462346532632d353064312d386133652d396330662d326231663664376338653930222c2274696d65223a22323032332d31312d31345432323a31333a32302e3030305a222c2272657461696e223a747275652c226d7367223a317d0a0a3521b2a6"
	if got := hex.EncodeToString(r.encode(nil)); got != want {
		t.Errorf("the record is %s", got)
	}
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

func TestADeliveryIsReadFromItsReplySubject(t *testing.T) {
	for _, reply := range []string{
		"$JS.ACK.WATCHBOX.hub-1.1.42.7.1795867323923147641.3",
		"$JS.ACK._.ACCHASH.WATCHBOX.hub-1.1.42.7.1795867323923147641.3.x",
		"$JS.ACK.hub.ACCHASH.WATCHBOX.hub-1.1.42.7.1795867323923147641.3",
	} {
		want := delivery{seq: 42, number: 7, stored: time.Unix(1795867323, 923147641), pending: 3}
		if d, err := deliveryOf(reply); d != want || err != nil {
			t.Errorf("%s: %+v, %v", reply, d, err)
		}
	}
	for _, reply := range []string{"", "$JS.ACK.", "$JS.ACK.a.b.c.d.e.f.g"} {
		if _, err := deliveryOf(reply); err == nil {
			t.Errorf("%q is taken for a position", reply)
		}
	}
}
