package jetstream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
)

// The servers refuse messages when a limit is reached: max_bytes or max_msgs of the stream with the discard policy new, the
// storage limit of the account, or max_file_store. To make room, the hubs have to write first: only what a note says is
// evicted is removed from the stream. So the stream has a reserve, a note of many bytes. A hub whose message is refused
// replaces it by its last part, and writes a note with the reason. From then on all hubs refuse messages, and use the room for
// notes. If that is used up, too, the last part is removed for notes that make room: no others are written until it is
// there again. The janitor tries to write a full reserve again, and behind it, in place of the reason, as many bytes once more. If the
// servers let it remove those bytes, too, there is room for messages.

// Keys of the notes about room.
const (
	reserveKey = "reserve" // a 0, or lastPart, and other bytes, or "": it is spent
	roomKey    = "room"    // the reason why there is none, or a 0 and other bytes, or "": there is room
)

const (
	reserveSize = 512 << 10
	minReserve  = 4 << 10
	lastShare   = 8 // the part of it that is the last one
)

// lastPart is the first byte of a reserve of which only the last part is left.
const lastPart = 1

// room is what a hub knows of the room in the stream.
type room struct {
	spending sync.Mutex

	mu    sync.Mutex // guards the fields below
	full  *fullError // nil: there is room
	told  bool       // the stream says that there is none
	armed bool       // the stream has a full reserve
	last  bool       // it has the last part of one at least
	large bool       // the bytes in place of the reason are there
	shut  time.Time  // when the next note is tried, except those that make room; zero: there is room for notes
	next  time.Time  // when the janitor tries again to write one
	wait  time.Duration
}

// makesRoom reports whether notes make room: those of the log itself, which say what is evicted or no longer kept, and
// those that are removed, which leave fewer bytes.
func makesRoom(list []store.Note) bool {
	for _, n := range list {
		if n.Value != nil && !isOwn(n.Key) {
			return false
		}
	}
	return true
}

// fullError is a store.ErrFull with what the servers say.
type fullError struct{ reason string }

func (e *fullError) Error() string {
	return fmt.Sprintf("%v: NATS says %q: raise the limit of the stream, the account or the servers, or purge groups", store.ErrFull, e.reason)
}

func (e *fullError) Unwrap() error { return store.ErrFull }

// isFull reports whether the servers refuse a request for lack of room.
func isFull(err error) bool {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return errors.Is(err, store.ErrFull) || ok && fullCodes[refused.ErrorCode]
}

// fullCodes are the codes of the servers for lack of room.
var fullCodes = map[jetstream.ErrorCode]bool{
	10002: true, // resource limits of the account
	10023: true, // max_file_store
	10047: true, // storage resources
	10077: true, // max_bytes or max_msgs of the stream
}

// shortage returns why messages are refused, or nil.
func (l *Log) shortage() error {
	l.room.mu.Lock()
	defer l.room.mu.Unlock()
	if l.room.full == nil {
		return nil
	}
	return l.room.full
}

// shortageOfNotes returns why notes that make no room are refused, or nil. While there is no room for notes either, it lets one
// of them be tried from time to time: more might take the room of the last part of the reserve when it is spent.
func (l *Log) shortageOfNotes() error {
	r := &l.room
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	switch {
	case !r.told || !r.spent():
		return nil
	case !r.last || now.Before(r.shut):
		return r.full
	case !r.shut.IsZero():
		r.shut = now.Add(l.opts.Times.Janitor)
	}
	return nil
}

// setShut records whether there is no room for notes either.
func (l *Log) setShut(shut bool) {
	l.room.mu.Lock()
	defer l.room.mu.Unlock()
	if l.room.shut = (time.Time{}); shut {
		l.room.shut = time.Now().Add(l.opts.Times.Janitor)
	}
}

// spent reports whether notes use the room of the reserve. r.mu is held.
func (r *room) spent() bool { return !r.armed && !r.large }

// apply takes over what the newest version of a note says.
func (r *room) apply(key string, value []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case key == reserveKey:
		r.last = len(value) > 0
		r.armed = r.last && value[0] != lastPart
		r.shut = time.Time{}
	case len(value) == 0:
		r.full, r.told, r.wait, r.large = nil, false, 0, false
	case value[0] != 0:
		r.full, r.told, r.large = &fullError{string(value)}, true, false
	default: // the servers may have taken it beyond a limit: it is over when they take the next one, too
		r.large = true
		if r.full == nil {
			r.full, r.told = &fullError{"a limit was reached"}, true
		}
	}
}

// reset forgets what was known of another stream.
func (r *room) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full, r.told, r.armed, r.last, r.large, r.shut, r.wait, r.next = nil, false, false, false, false, time.Time{}, 0, time.Time{}
}

// spendReserve is called when an append of n bytes was refused for lack of room. It reports whether notes may be stored
// now. Its last part is only spent for notes that make room. A message that is larger than the reserve may be refused though
// there is room for others.
func (l *Log) spendReserve(ctx context.Context, full *fullError, n int, makesRoom bool) bool {
	if n > l.reserveSize() {
		return false
	}
	r := &l.room
	r.spending.Lock()
	defer r.spending.Unlock()
	r.mu.Lock()
	r.full = full
	first, last := !r.told || !r.spent(), makesRoom && r.last
	r.mu.Unlock()
	var left []byte
	switch {
	case first:
		left = l.lastReserve()
	case !last:
		return false
	}
	err := l.writeRoom(ctx, left, full.reason)
	if first && errors.Is(err, store.ErrFull) { // there was no reserve
		err = l.writeRoom(ctx, nil, full.reason)
	}
	if err != nil {
		return false // settleRoom tries again
	}
	if first {
		l.opts.Logger.Warn("the stream has no room: messages are refused until there is some", "reason", full.reason)
	}
	return true
}

// writeRoom writes what is left of the reserve, and why there is no room.
func (l *Log) writeRoom(ctx context.Context, left []byte, reason string) error {
	notes := []store.Note{{Key: reserveKey, Value: append([]byte{}, left...)}, {Key: roomKey, Value: []byte(reason)}}
	_, err := l.AppendNoted(ctx, nil, notes...)
	if !errors.Is(err, store.ErrFull) {
		return err
	}
	// The other bytes, too: the janitor may have written them into the room that the reserve left when a hub spent it.
	for _, n := range notes {
		if err := l.purgeSubject(ctx, l.subjects.note(n.Key)); err != nil {
			return err
		}
		l.notes.purged(n.Key)
	}
	_, err = l.AppendNoted(ctx, nil, notes...)
	return err
}

// settleRoom tells the other hubs of a shortage if that has failed before.
func (l *Log) settleRoom(ctx context.Context) {
	l.room.mu.Lock()
	full, told := l.room.full, l.room.told
	l.room.mu.Unlock()
	if full != nil && !told {
		l.spendReserve(ctx, full, 0, false)
	}
}

// reserveSize returns how many bytes the reserve has.
func (l *Log) reserveSize() int {
	n := min(int64(reserveSize), l.nc.MaxPayload()/2)
	if m := l.tail.maxMsgSize.Load(); m > 0 {
		n = min(n, m/2)
	}
	if m := l.tail.maxBytes.Load(); m > 0 {
		n = min(n, m/16)
	}
	return int(max(n, minReserve))
}

// fullReserve returns the value of a full reserve.
func (l *Log) fullReserve() []byte {
	value := make([]byte, l.reserveSize())
	_, _ = rand.Read(value[1:]) // never fails; the stream may be compressed
	return value
}

// lastReserve returns the value of a reserve of which the last part is left.
func (l *Log) lastReserve() []byte {
	value := l.fullReserve()[:l.reserveSize()/lastShare]
	value[0] = lastPart
	return value
}

// reserve writes a full reserve if the stream has none, and then that there is room. If that fails, it writes the last part,
// and waits for longer and longer: in a cluster, servers without room choose another leader each time.
func (j *janitor) reserve(ctx context.Context) error {
	r := &j.l.room
	r.mu.Lock()
	armed, last, full := r.armed, r.last, r.full != nil || r.large
	due := (!armed || full) && !time.Now().Before(r.next)
	if due {
		r.wait = min(max(2*r.wait, j.l.opts.Times.Janitor), 8*j.l.opts.Times.Janitor)
		r.next = time.Now().Add(r.wait)
	}
	r.mu.Unlock()
	if !due {
		return nil
	}
	value := j.l.fullReserve()
	var err error
	if !armed {
		_, err = j.l.AppendNoted(ctx, nil, store.Note{Key: reserveKey, Value: value})
	}
	if !last && errors.Is(err, store.ErrFull) {
		_, err = j.l.AppendNoted(ctx, nil, store.Note{Key: reserveKey, Value: j.l.lastReserve()})
		full = false
	}
	if full {
		for _, value := range [][]byte{value, {}} {
			if err == nil {
				_, err = j.l.AppendNoted(ctx, nil, store.Note{Key: roomKey, Value: value})
			}
		}
	}
	return err
}
