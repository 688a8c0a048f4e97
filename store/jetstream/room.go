package jetstream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
)

// The servers refuse messages when a limit is reached: max_bytes or max_msgs of the stream with the discard policy new, the
// storage limit of the account, or max_file_store. To make room, the hubs have to write first: only what a note says is
// evicted is removed from the stream. So the stream has a reserve, a note of many bytes. A hub whose message is refused
// replaces it by a short one, and writes a note with the reason. From then on all hubs refuse messages, and use the room for
// notes. The janitor tries to write a full reserve again, and behind it, in place of the reason, as many bytes once more. If the
// servers let it remove those bytes, too, there is room for messages. If notes use up the reserve, share.go has what is left.

// Keys of the notes about room.
const (
	reserveKey = "reserve"
	shareKey   = "reserve/last"
	roomKey    = "room" // the reason why there is none, or a 0 and other bytes, or "": there is room
)

var roomKeys = []string{reserveKey, shareKey, roomKey}

// isRoom reports whether a note is about room.
func isRoom(key string) bool { return slices.Contains(roomKeys, key) }

const (
	reserveSize = 512 << 10
	minReserve  = 4 << 10
)

// room is what a hub knows of the room in the stream.
type room struct {
	spending sync.Mutex
	wake     chan struct{} // the last share was spent

	mu    sync.Mutex // guards the fields below
	full  *fullError // nil: there is room
	told  bool       // the stream says that there is none
	armed bool       // the stream has a full reserve
	large bool       // the bytes in place of the reason are there
	next  time.Time  // when the janitor tries again to write one
	wait  time.Duration
	share share
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

// apply takes over what the newest version of a note says.
func (r *room) apply(key string, value []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case key == shareKey:
		r.share = share{there: len(value) > 0, flying: r.share.flying}
		if !r.share.there {
			r.wakeJanitor()
		}
	case key == reserveKey:
		r.armed = len(value) > 0
		r.share.shut = r.share.shut && !r.armed
	case len(value) == 0:
		r.full, r.told, r.wait, r.large, r.share.shut = nil, false, 0, false, false
	case value[0] != 0:
		if !r.told {
			r.share.taken = 0
		}
		r.full, r.told, r.large = &fullError{string(value)}, true, false
	default: // the servers may have taken it beyond a limit: it is over when they take the next one, too
		r.large = true
		if r.full == nil {
			r.full, r.told = &fullError{"a limit was reached"}, true
		}
	}
}

func (r *room) wakeJanitor() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// reset forgets what was known of another stream.
func (r *room) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full, r.told, r.armed, r.large, r.wait, r.next = nil, false, false, false, 0, time.Time{}
	r.share = share{flying: r.share.flying}
}

// spendReserve is called when an append of n bytes was refused for lack of room. It reports whether notes may be stored
// now. A message that is larger than the reserve may be refused though there is room for others.
func (l *Log) spendReserve(ctx context.Context, full *fullError, n int) bool {
	if n > l.reserveSize() {
		return false
	}
	r := &l.room
	r.spending.Lock()
	defer r.spending.Unlock()
	r.mu.Lock()
	r.full = full
	spent := r.told && !r.armed && !r.large
	r.mu.Unlock()
	if spent {
		return false
	}
	notes := []store.Note{{Key: reserveKey, Value: []byte{}}, {Key: roomKey, Value: []byte(full.reason)}}
	_, err := l.AppendNoted(ctx, nil, notes...)
	if errors.Is(err, store.ErrFull) {
		// The other bytes, too: the janitor may have written them into the room that the reserve left when a hub spent it.
		err = l.replacePurged(ctx, notes)
	}
	if errors.Is(err, store.ErrFull) { // messages that other hubs had sent before have taken that room
		err = l.replacePurged(ctx, append(notes, store.Note{Key: shareKey, Value: []byte{}}))
	}
	if err != nil {
		return false // settleRoom tries again
	}
	l.opts.Logger.Warn("the stream has no room: messages are refused until there is some", "reason", full.reason)
	return true
}

// replacePurged writes notes, and purges the versions that they replace before, which needs no room. It does not purge a version
// that this hub has not read: the numbers of the versions would not tell the hubs that one is missing. See also purgedNote.
func (l *Log) replacePurged(ctx context.Context, notes []store.Note) error {
	for _, n := range notes {
		v, _ := l.notes.get(n.Key)
		if v.at == 0 {
			continue
		}
		if err := l.purgeSubject(ctx, l.subjects.note(n.Key), jetstream.WithPurgeSequence(uint64(v.at)+1)); err != nil {
			return err
		}
		l.notes.purged(n.Key, v.at)
	}
	_, err := l.AppendNoted(ctx, nil, notes...)
	return err
}

// settleRoom tells the other hubs of a shortage if that has failed before.
func (l *Log) settleRoom(ctx context.Context) {
	l.room.mu.Lock()
	full, told := l.room.full, l.room.told
	l.room.mu.Unlock()
	if full != nil && !told {
		l.spendReserve(ctx, full, 0)
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

// filler returns bytes that take room in the stream, which may be compressed.
func filler(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b[1:]) // never fails
	return b
}

// reserve writes the last share and a full reserve if the stream has none, and then that there is room. If that fails, it waits
// for longer and longer: in a cluster, servers without room choose another leader each time.
func (j *janitor) reserve(ctx context.Context) error {
	r := &j.l.room
	r.mu.Lock()
	armed, share, full := r.armed, r.share.there, r.full != nil || r.large
	due := (!armed || !share || full) && !time.Now().Before(r.next)
	if due {
		r.wait = min(max(2*r.wait, j.l.opts.Times.Janitor), 8*j.l.opts.Times.Janitor)
		r.next = time.Now().Add(r.wait)
	}
	r.mu.Unlock()
	if !due {
		return nil
	}
	var list []store.Note
	if !share || full { // if the stream takes another one, there is room for notes again
		list = append(list, store.Note{Key: shareKey, Value: filler(j.l.shareSize())})
	}
	large := filler(j.l.reserveSize())
	if !armed {
		list = append(list, store.Note{Key: reserveKey, Value: large})
	}
	if full {
		list = append(list, store.Note{Key: roomKey, Value: large}, store.Note{Key: roomKey, Value: []byte{}})
	}
	for _, n := range list {
		if _, err := j.l.AppendNoted(ctx, nil, n); err != nil {
			return err
		}
	}
	return nil
}
