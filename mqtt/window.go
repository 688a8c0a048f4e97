package mqtt

import (
	"slices"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/store"
)

// The most messages that are sent to a client and not acknowledged. A client with a smaller Receive Maximum gets no more
// than that. A session that is kept stores its window. Another session may have more in flight: with 1,000 busy publishers a
// round trip takes 50 ms, and a subscriber with 64 messages in flight got 1,200 messages/s of 20,000.
const (
	maxWindow      = 64
	maxBriefWindow = 1024 // of a session that ends with its connection
)

// window holds what was sent to a client and is not acknowledged: packet ids and positions. The messages themselves
// stay in the log. The zero value is an empty window that nothing fits into.
type window struct {
	list []entry // in the order in which they were sent
	size int     // the most messages in flight on this connection
	last uint16  // the packet id that was given last

	// These save a search through a large window for each message.
	resends  bool  // entries may have isAgain
	appended int32 // entries with isAppended: usually the last ones
}

// entry is a message that is not acknowledged.
type entry struct {
	seq   store.Seq
	id    uint16
	state state
	flags entryFlags
	pass  delivery.Pass
	of    *share // that the message belongs to; nil: the client's own
}

// state says what a message waits for. It is stored.
type state uint8

const (
	awaitAck  state = iota + 1 // QoS 1: PUBACK
	awaitRec                   // QoS 2: PUBREC
	awaitComp                  // QoS 2: PUBCOMP. The client has the message.
)

// entryFlags are properties of an entry. Only isRetained is stored.
type entryFlags uint8

const (
	isRetained entryFlags = 1 << iota // it was read from the retained messages
	isAgain                           // it was sent on an earlier connection, and not yet on this one
	isAppended                        // it is part of what the stream is about to send, in pass
	wasAgain                          // it had isAgain on this connection
)

// qos returns the QoS with which the message was sent.
func (e *entry) qos() byte {
	if e.state == awaitAck {
		return 1
	}
	return 2
}

func (e *entry) is(f entryFlags) bool { return e.flags&f != 0 }

// add adds a message that is sent, or will be.
func (w *window) add(e entry) {
	w.list = append(w.list, e)
	w.resends = w.resends || e.is(isAgain)
	if e.is(isAppended) {
		w.appended++
	}
}

// appendAgain tells that the stream has appended the message of an entry with isAgain in a pass.
func (w *window) appendAgain(e *entry, pass delivery.Pass) {
	e.flags = e.flags&^isAgain | isAppended | wasAgain
	e.pass = pass
	w.appended++
}

// flying returns how many messages count towards the client's Receive Maximum.
func (w *window) flying() (n int) {
	if !w.resends {
		return len(w.list)
	}
	for i := range w.list {
		if !w.list[i].is(isAgain) {
			n++
		}
	}
	return n
}

// full reports whether the client takes no more messages of QoS 1 and 2.
func (w *window) full() bool { return len(w.list) >= w.size && w.flying() >= w.size }

// maxID is the highest packet id that is used in a session that is kept. After a crash of the server, a client may hold ids of messages of QoS 2
// that the server does not know of, and would take new messages with these ids for repetitions. With few ids, all of them
// can be released then.
const maxID = 4 * maxWindow

// next returns the next packet id that is free.
func (w *window) next() uint16 {
	for {
		if w.last = w.last%uint16(max(maxID, 4*w.size)) + 1; w.find(w.last) < 0 {
			return w.last
		}
	}
}

// find returns the index of a packet id, or -1.
func (w *window) find(id uint16) int {
	for i := range w.list {
		if w.list[i].id == id {
			return i
		}
	}
	return -1
}

// again returns the entry of a message that has to be sent again, or nil.
func (w *window) again(seq store.Seq) *entry {
	if !w.resends {
		return nil
	}
	for i := range w.list {
		if e := &w.list[i]; e.seq == seq && e.is(isAgain) {
			return e
		}
	}
	return nil
}

func (w *window) remove(i int) {
	if w.list[i].is(isAppended) {
		w.appended--
	}
	if i == 0 && len(w.list) > maxWindow { // the usual case, without moving all others
		w.list = w.list[1:]
		return
	}
	w.list = slices.Delete(w.list, i, i+1)
}

// sent tells that of what the stream appended in a pass, it sent everything up to a position, and will append again
// what lies behind it. It returns how many messages were sent with QoS 1 and 2.
func (w *window) sent(reached store.Seq, pass delivery.Pass) (one, two uint64) {
	first := len(w.list)
	for left := w.appended; left > 0; {
		if first--; w.list[first].is(isAppended) {
			left--
		}
	}
	kept := w.list[:first]
	for _, e := range w.list[first:] {
		if e.is(isAppended) && e.pass == pass {
			e.flags &^= isAppended
			w.appended--
			switch {
			case e.seq <= reached && e.qos() == 1:
				one++
			case e.seq <= reached:
				two++
			case e.is(wasAgain):
				e.flags |= isAgain
				w.resends = true
			default:
				continue
			}
		}
		kept = append(kept, e)
	}
	w.list = kept
	return one, two
}

// passed tells that the stream has passed a position of the log. Messages before it that had to be sent again are not
// there any more. It returns the packet ids of those whose exchange has to be completed, since the client may have
// them.
func (w *window) passed(reached store.Seq) (complete []uint16) {
	if !w.resends {
		return nil
	}
	w.resends = false
	kept := w.list[:0]
	for _, e := range w.list {
		if e.is(isAgain) && !e.is(isRetained) && e.seq <= reached {
			if e.state != awaitRec {
				continue
			}
			e.flags &^= isAgain
			e.state = awaitComp
			complete = append(complete, e.id)
		}
		w.resends = w.resends || e.is(isAgain)
		kept = append(kept, e)
	}
	w.list = kept
	return complete
}

// done returns the position up to which everything is acknowledged, if everything up to read was sent.
func (w *window) done(read store.Seq) store.Seq {
	for i := range w.list {
		if e := &w.list[i]; e.state != awaitComp && !e.is(isRetained) && e.of == nil && e.seq <= read {
			read = e.seq - 1
		}
	}
	return read
}

// newest returns the highest position of a message that has to be sent again if the connection is lost; 0: there is none.
func (w *window) newest() (seq store.Seq) {
	for i := range w.list {
		if e := &w.list[i]; e.state != awaitComp && e.of == nil {
			seq = max(seq, e.seq)
		}
	}
	return seq
}

// retained reports whether a retained message has to be sent again.
func (w *window) retained() bool {
	return slices.ContainsFunc(w.list, func(e entry) bool { return e.is(isRetained) && e.state != awaitComp })
}
