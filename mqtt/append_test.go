package mqtt

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

func TestABatchHasABound(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a"})
	defer c.leave()
	x := new(turn)
	all := bytes.Repeat([]byte{0x62, 2, 0, 1}, 50*maxBatch) // PUBREL of an unknown id
	if used, err := c.conn.handle(x, all); used != len(all) || err != nil {
		t.Fatal(used, err)
	}
	if n := cap(x.batch.answers); n > 2*maxBatch {
		t.Errorf("the batch had room for %d packets", n)
	}
}

func TestMoreMessagesThanReceiveMaximum(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", nil)
	var all []byte
	for id := range uint16(receiveMaximum) {
		all = append(all, c.encoded(packets.Publish, &packets.Packet{TopicName: "a", PacketID: id + 1, FixedHeader: packets.FixedHeader{Qos: 2}})...)
	}
	c.raw(all)
	for id := range uint16(receiveMaximum) {
		c.expectAck(packets.Pubrec, id+1, 0)
	}
	c.send(packets.Pubrel, &packets.Packet{PacketID: 3})
	c.expectAck(packets.Pubcomp, 3, 0)
	c.publish("a", "", 2, 3, nil)
	c.expectAck(packets.Pubrec, 3, 0)
	c.publish("a", "", 1, 1000, nil)
	c.expectEnd(packets.ErrReceiveMaximum.Code)
}

// counted is a log that counts its appends, and fails on demand.
type counted struct {
	store.Store
	mu      sync.Mutex
	appends int
	err     error
}

func (l *counted) Append(ctx context.Context, entries []store.Entry) (store.ID, error) {
	l.mu.Lock()
	l.appends++
	err := l.err
	l.mu.Unlock()
	if err != nil && entries[0].Group[0] != '$' {
		return store.ID{}, err
	}
	return l.Store.Append(ctx, entries)
}

func (l *counted) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func TestMessagesThatArriveTogetherAreAppendedTogether(t *testing.T) {
	log := &counted{Store: memory.New(memory.Options{MaxMemory: 64 << 20, MaxGroups: 100})}
	r := serveOn(t, log, nil)
	c := r.admitted("a", nil)
	log.mu.Lock()
	before := log.appends
	log.mu.Unlock()
	var all []byte
	var want []string
	for id := range uint16(200) {
		qos := byte(id % 3)
		text := fmt.Sprint(id)
		pk := packets.Packet{TopicName: "a", Payload: []byte(text), PacketID: id + 1, FixedHeader: packets.FixedHeader{Qos: qos}}
		switch id % 10 {
		case 7:
			pk.TopicName = "$not"
		case 8:
			pk.TopicName = "a//////////////////b"
		default:
			want = append(want, text)
		}
		all = append(all, c.encoded(packets.Publish, &pk)...)
	}
	c.raw(all)
	for id := range uint16(200) {
		code := byte(0)
		switch id % 10 {
		case 7:
			code = packets.ErrNotAuthorized.Code
		case 8:
			code = packets.ErrTopicNameInvalid.Code
		}
		switch id % 3 {
		case 1:
			c.expectAck(packets.Puback, id+1, code)
		case 2:
			c.expectAck(packets.Pubrec, id+1, code)
		}
	}
	r.expectMessages("a", want...)
	log.mu.Lock()
	defer log.mu.Unlock()
	if n := log.appends - before; n > 10 {
		t.Errorf("%d appends for 200 messages in %d bytes", n, len(all))
	}
}

func TestAMessageThatTheStoreRefusesHarmsNoOther(t *testing.T) {
	r := serveOn(t, memory.New(memory.Options{MaxMemory: 64 << 20, MaxGroups: 2}), nil)
	c := r.admitted("a", nil)
	var all []byte
	for i, topic := range []string{"a", "b", "c", "d", "a"} {
		pk := packets.Packet{TopicName: topic, Payload: []byte{'0' + byte(i)}, PacketID: uint16(i) + 1, FixedHeader: packets.FixedHeader{Qos: 1}}
		all = append(all, c.encoded(packets.Publish, &pk)...)
	}
	c.raw(all)
	for i, code := range []byte{0, 0, packets.ErrQuotaExceeded.Code, packets.ErrQuotaExceeded.Code, 0} {
		c.expectAck(packets.Puback, uint16(i)+1, code)
	}
	r.expectMessages("a", "0", "4")
	r.expectMessages("b", "1")
}

func TestAStoreThatCannotTakeMessages(t *testing.T) {
	log := &counted{Store: memory.New(memory.Options{MaxMemory: 64 << 20, MaxGroups: 100})}
	r := serveOn(t, log, nil)
	for _, c := range []struct {
		err error
		v5  byte // PUBACK; 0: the connection ends
	}{{store.ErrFull, packets.ErrQuotaExceeded.Code}, {store.ErrAway, 0}, {store.ErrUnknownOutcome, 0}, {store.ErrReadOnly, 0}} {
		log.fail(c.err)
		v5 := r.admitted("a", nil)
		v5.publish("a", "x", 0, 0, nil) // lost, as QoS 0 may be
		v5.publish("a", "x", 1, 1, nil)
		if c.v5 != 0 {
			v5.expectAck(packets.Puback, 1, c.v5)
			v5.ping()
		} else {
			v5.expectEnd(packets.ErrServerBusy.Code)
		}
		v3 := r.admitted("b", old)
		v3.publish("a", "x", 1, 1, nil)
		v3.expectEnd(0) // so that it sends the message again
	}
	log.fail(nil)
	c := r.admitted("a", nil)
	c.publish("a", "x", 1, 1, nil)
	c.expectAck(packets.Puback, 1, 0)
	r.expectMessages("a", "x")
}

func TestAnOldClientMayHaveManyMessagesWithoutAnAnswer(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", old)
	const many = 3000
	var all []byte
	for id := range uint16(many) {
		all = append(all, c.encoded(packets.Publish, &packets.Packet{TopicName: "a", PacketID: id + 1, FixedHeader: packets.FixedHeader{Qos: 1}})...)
	}
	sent := make(chan error, 1)
	go func() { _, err := c.Write(all); sent <- err }()
	for id := range uint16(many) {
		c.expectAck(packets.Puback, id+1, 0)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}
