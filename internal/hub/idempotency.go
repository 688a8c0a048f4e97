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

// keys keeps the answers to the newest requests with an idempotency key. An answer takes 88 bytes and
// about 40 more in the index, regardless of the lengths of key and body: 8 MiB for the default number
// of keys.
type keys struct {
	mu      sync.Mutex        // guards the fields below
	running map[digest]*claim // requests without an answer yet, by key
	slots   map[digest]int    // indexes into answers, by key
	answers []answer          // a ring once it has limit answers
	next    int               // the next slot to use; once the ring is full it holds the oldest answer
	spare   []int             // slots of failed requests: they are used before next
	limit   int               // of answers
}

// digest is the first half of a SHA-256.
type digest [sha256.Size / 2]byte

// answer is the answer to a request with a key, and identifies that request.
type answer struct {
	key         digest // of sender, group and key
	fingerprint digest // of the request's content
	first       store.ID
	time        int64  // Unix time in milliseconds
	count       uint32 // number of messages
	movedTo     string // the group that a hook chose instead of the request's; "" if none did
}

// claim belongs to the first request with a key, while it runs. Later requests with the key wait for it.
type claim struct {
	key         digest
	fingerprint digest
	slot        int           // the index that the answer will have
	done        chan struct{} // closed once the request has succeeded or failed
	learned     chan struct{} // if not nil, closed when another hub's answer is known

	// Set before done is closed.
	receipt Receipt
	err     error
}

func newKeys(n int) *keys {
	return &keys{running: map[digest]*claim{}, slots: map[digest]int{}, limit: max(n, 1)}
}

// once calls do to answer a request, unless the answer to an earlier request with the same key is
// known. A request that arrives while the first one runs waits for it. A failed request is forgotten
// and replaces no other answer. For a request without a key, do gets a nil claim.
func (k *keys) once(ctx context.Context, p *Publication, do func(*claim) (Receipt, error)) (Receipt, error) {
	if p.Key == "" {
		return do(nil)
	}
	mine := &claim{key: p.keyDigest(), fingerprint: p.fingerprint(), done: make(chan struct{})}
	for {
		old, first := k.claim(mine)
		if old != nil {
			return old.replay(p, mine.fingerprint)
		}
		if first == mine {
			break
		}
		if first.fingerprint != mine.fingerprint {
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
	if errors.Is(mine.err, store.ErrConflict) { // another hub had the same request at the same time
		mine.receipt, mine.err = k.await(ctx, p, mine)
	}
	return mine.receipt, mine.err
}

// await waits for the answer that another hub has given to mine's request.
func (k *keys) await(ctx context.Context, p *Publication, mine *claim) (Receipt, error) {
	k.mu.Lock()
	slot, ok := k.slots[mine.key]
	if !ok {
		learned := make(chan struct{})
		mine.learned = learned
		k.mu.Unlock()
		late := time.NewTimer(callTimeout)
		defer late.Stop()
		select {
		case <-learned:
		case <-late.C:
			return Receipt{}, store.ErrUnknownOutcome
		case <-ctx.Done():
			return Receipt{}, ctx.Err()
		}
		k.mu.Lock()
		slot = k.slots[mine.key]
	}
	a := k.answers[slot]
	k.mu.Unlock()
	return a.replay(p, mine.fingerprint)
}

// knows reports whether the answer to a request is known.
func (k *keys) knows(key digest) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.slots[key]
	return ok
}

// learn keeps an answer that another hub has given, or this one.
func (k *keys) learn(a answer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.slots[a.key]; ok {
		return
	}
	k.put(k.reserve(), a)
	if c := k.running[a.key]; c != nil && c.learned != nil {
		close(c.learned)
		c.learned = nil
	}
}

// errPanicked is the error of a claim until do returns. If a hook of the embedding program panics,
// waiting requests see this error.
var errPanicked = errors.New("the first request with this idempotency key panicked")

// claim returns the answer for mine's key if it is known. Otherwise it returns the claim of the running
// request with that key, or registers mine and returns it.
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

// reserve returns the slot for the next answer. The slot keeps its old answer until settle replaces it.
func (k *keys) reserve() int {
	if n := len(k.spare); n > 0 {
		slot := k.spare[n-1]
		k.spare = k.spare[:n-1]
		return slot
	}
	slot := k.next
	k.next = (slot + 1) % k.limit
	if slot == len(k.answers) {
		k.answers = append(k.answers, answer{})
	}
	return slot
}

// settle ends a claim: it stores the answer in the claim's slot, or frees the slot if the request failed.
func (k *keys) settle(p *Publication, c *claim) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.running, c.key)
	if _, known := k.slots[c.key]; c.err == nil && !known { // otherwise it was learned
		k.put(c.slot, c.answer(p, &c.receipt))
	} else {
		k.spare = append(k.spare, c.slot)
	}
	close(c.done)
}

// put stores an answer in a slot and forgets the answer that was there.
func (k *keys) put(slot int, a answer) {
	if old := &k.answers[slot]; old.key != (digest{}) && k.slots[old.key] == slot {
		delete(k.slots, old.key)
	}
	k.answers[slot] = a
	k.slots[a.key] = slot
}

// restore restores the answers that an earlier process stored, by slot.
func (k *keys) restore(stored map[int]answer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	newest := store.Seq(0)
	for slot, a := range stored {
		if slot >= k.limit {
			continue // the limit is lower than it was
		}
		if missing := slot + 1 - len(k.answers); missing > 0 {
			k.answers = append(k.answers, make([]answer, missing)...)
		}
		k.put(slot, a)
		if a.first.Seq >= newest {
			newest, k.next = a.first.Seq, (slot+1)%k.limit
		}
	}
	if len(k.answers) < k.limit {
		k.next = len(k.answers)
	}
}

// reset forgets all answers: the log does not have their messages any more.
func (k *keys) reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.slots)
	clear(k.answers)
}

// size returns the number of answers.
func (k *keys) size() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.slots)
}

// answer returns the answer to keep for a receipt.
func (c *claim) answer(p *Publication, r *Receipt) answer {
	a := answer{key: c.key, fingerprint: c.fingerprint, first: r.First, time: r.Time.UnixMilli(), count: uint32(r.Count)}
	if r.Group != p.Group && p.Kind != Batch {
		a.movedTo = r.Group
	}
	return a
}

// replay returns the receipt for a repeated request, or ErrMismatch if the request has other content.
func (a *answer) replay(p *Publication, fingerprint digest) (Receipt, error) {
	if a.fingerprint != fingerprint {
		return Receipt{}, ErrMismatch
	}
	r := Receipt{First: a.first, ID: a.first, Group: p.Group, Time: time.UnixMilli(a.time), Count: int(a.count), Replayed: true}
	if a.count > 0 {
		r.ID.Seq += store.Seq(a.count) - 1
	}
	if a.movedTo != "" {
		r.Group = a.movedTo
	}
	return r, nil
}

// keyDigest identifies the sender, the group and the key. All batches of a sender count as one group.
func (p *Publication) keyDigest() digest {
	sender, group := p.UID, p.Group
	if sender == "" {
		sender = clientOf(p.Grant, p.Address)
	}
	if p.Kind == Batch {
		group = "#" // not a valid group name
	}
	b := make([]byte, 0, 512)
	for _, s := range []string{sender, group, p.Key} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	sum := sha256.Sum256(b)
	return digest(sum[:])
}

// fingerprint identifies the content of a request.
func (p *Publication) fingerprint() digest {
	h := sha256.New()
	fmt.Fprintf(h, "%d %q %d %t", p.Kind, p.Event, p.TTL, p.Retain)
	if len(p.Meta) > 0 { // otherwise it is the same as in versions without metadata, whose answers a store may hold
		fmt.Fprintf(h, " %q", p.Meta)
	}
	h.Write([]byte("\n"))
	h.Write(p.Body)
	return digest(h.Sum(nil))
}
