package hub

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// keys remembers the answers to the newest requests that had an idempotency key. An answer takes
// 88 bytes and about 40 more in the index, whatever the lengths of key and body: 8 MiB for the
// default number of keys.
type keys struct {
	mu      sync.Mutex        // guards what follows
	running map[digest]*claim // requests that have no answer yet, by key
	slots   map[digest]int    // where in answers a key is
	answers []answer          // a ring once there are most
	next    int               // the slot that is used next, which has the oldest answer
	spare   []int             // slots of requests that failed: they are used before next
	most    int
}

// digest is the first half of a SHA-256.
type digest [sha256.Size / 2]byte

// answer is a request with a key, and how it was answered.
type answer struct {
	key   digest // of sender, group and key
	print digest // of what the request asked for
	first store.ID
	time  int64  // in ms since 1970
	count uint32 // of messages
	moved string // the group that a hook chose instead of the request's; "" for none
}

// claim is the right to answer the first request with a key. Others with that key wait for it.
type claim struct {
	key   digest
	print digest
	slot  int           // where the answer will be kept
	done  chan struct{} // closed once the request was answered or has failed

	// Set before done is closed.
	receipt Receipt
	err     error
}

func newKeys(n int) *keys {
	return &keys{running: map[digest]*claim{}, slots: map[digest]int{}, most: max(n, 1)}
}

// once calls do to answer a request, unless a request with its key was answered before. A request
// that comes while the first one is under way waits for it. A request that fails is forgotten, and
// takes no other answer's place. do gets nil for a request without a key.
func (k *keys) once(ctx context.Context, p *Publication, do func(*claim) (Receipt, error)) (Receipt, error) {
	if p.Key == "" {
		return do(nil)
	}
	mine := &claim{key: p.keyDigest(), print: p.print(), done: make(chan struct{})}
	for {
		old, first := k.claim(mine)
		if old != nil {
			return old.replay(p, mine.print)
		}
		if first == mine {
			break
		}
		if first.print != mine.print {
			return Receipt{}, ErrMismatch
		}
		select {
		case <-first.done:
		case <-ctx.Done():
			return Receipt{}, ctx.Err()
		}
		if first.err == nil {
			r := first.receipt
			r.Replayed = true
			return r, nil
		}
	}
	mine.err = errPanicked
	defer func() { k.settle(p, mine) }()
	mine.receipt, mine.err = do(mine)
	return mine.receipt, mine.err
}

// errPanicked is the error of a claim until there is an answer: a hook of the hosting program may
// panic while other requests wait.
var errPanicked = errors.New("the first request with this idempotency key panicked")

// claim returns the key's answer, or the claim on it: mine, if there was none.
func (k *keys) claim(mine *claim) (*answer, *claim) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if slot, ok := k.slots[mine.key]; ok {
		a := k.answers[slot]
		return &a, nil
	}
	if first := k.running[mine.key]; first != nil {
		return nil, first
	}
	mine.slot = k.reserve()
	k.running[mine.key] = mine
	return nil, mine
}

// reserve returns the slot for the next answer. Until that is settled, the slot's old answer holds.
func (k *keys) reserve() int {
	if n := len(k.spare); n > 0 {
		slot := k.spare[n-1]
		k.spare = k.spare[:n-1]
		return slot
	}
	slot := k.next
	k.next = (slot + 1) % k.most
	if slot == len(k.answers) {
		k.answers = append(k.answers, answer{})
	}
	return slot
}

// settle ends a claim: its answer takes the slot, or a failed request gives the slot back.
func (k *keys) settle(p *Publication, c *claim) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.running, c.key)
	if c.err == nil {
		k.put(c.slot, c.answer(p, &c.receipt))
	} else {
		k.spare = append(k.spare, c.slot)
	}
	close(c.done)
}

// put stores an answer in a slot, in the place of the one that was there.
func (k *keys) put(slot int, a answer) {
	if old := &k.answers[slot]; old.key != (digest{}) && k.slots[old.key] == slot {
		delete(k.slots, old.key)
	}
	k.answers[slot] = a
	k.slots[a.key] = slot
}

// recall restores the answers that an earlier process stored, by their slots.
func (k *keys) recall(stored map[int]answer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	newest := store.Seq(0)
	for slot, a := range stored {
		if slot >= k.most {
			continue // this process remembers fewer
		}
		if missing := slot + 1 - len(k.answers); missing > 0 {
			k.answers = append(k.answers, make([]answer, missing)...)
		}
		k.put(slot, a)
		if a.first.Seq >= newest {
			newest, k.next = a.first.Seq, (slot+1)%k.most
		}
	}
	if len(k.answers) < k.most {
		k.next = len(k.answers)
	}
}

// size returns how many answers are remembered.
func (k *keys) size() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.slots)
}

// answer returns what is remembered of a receipt.
func (c *claim) answer(p *Publication, r *Receipt) answer {
	a := answer{key: c.key, print: c.print, first: r.First, time: r.Time.UnixMilli(), count: uint32(r.Count)}
	if r.Group != p.Group && p.Kind != Batch {
		a.moved = r.Group
	}
	return a
}

// replay returns the receipt once more, if the request asks for the same.
func (a *answer) replay(p *Publication, print digest) (Receipt, error) {
	if a.print != print {
		return Receipt{}, ErrMismatch
	}
	r := Receipt{First: a.first, ID: a.first, Group: p.Group, Time: time.UnixMilli(a.time), Count: int(a.count), Replayed: true}
	if a.count > 0 {
		r.ID.Seq += store.Seq(a.count) - 1
	}
	if a.moved != "" {
		r.Group = a.moved
	}
	return r, nil
}

// keyDigest identifies the key, its sender and the group it is used for, or that it is a batch's.
func (p *Publication) keyDigest() digest {
	sender, group := p.UID, p.Group
	if sender == "" {
		sender = p.From
	}
	if p.Kind == Batch {
		group = "#" // the name of no group
	}
	b := make([]byte, 0, 512)
	for _, s := range []string{sender, group, p.Key} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	sum := sha256.Sum256(b)
	return digest(sum[:])
}

// print identifies what a request asks for.
func (p *Publication) print() digest {
	h := sha256.New()
	fmt.Fprintf(h, "%d %q %d %t\n", p.Kind, p.Event, p.TTL, p.Retain)
	h.Write(p.Body)
	return digest(h.Sum(nil))
}
