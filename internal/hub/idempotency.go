package hub

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
)

// keys remembers the answers to the last requests that had an idempotency key. When it is full,
// the oldest is forgotten.
type keys struct {
	mu    sync.Mutex // guards what follows
	byKey map[keyID]*keyed
	ring  []keyID // in order of their coming, as a ring once there are most
	next  int
	most  int
	out   []keyID // forgotten, and perhaps noted still
}

// keyID is a key, and whose and for which group it is.
type keyID struct{ sender, group, key string }

type keyed struct {
	print   [sha256.Size]byte // of the request
	done    chan struct{}     // closed once the answer stands, or there was none
	receipt Receipt
	err     error
}

func newKeys(n int) *keys { return &keys{byKey: map[keyID]*keyed{}, most: max(n, 1)} }

// once has do answer a request, unless one with its key was answered before. One that comes while
// the first is under way waits for that. A request that failed is forgotten.
func (k *keys) once(ctx context.Context, p *Publication, do func() (Receipt, error)) (Receipt, error) {
	if p.Key == "" {
		return do()
	}
	id := p.keyID()
	mine := &keyed{print: print(p), done: make(chan struct{})}
	for {
		first := k.claim(id, mine)
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
	defer func() {
		if mine.err != nil {
			k.forget(id, mine)
		}
		close(mine.done)
	}()
	mine.receipt, mine.err = do()
	return mine.receipt, mine.err
}

// keyID returns the key as it is remembered.
func (p *Publication) keyID() keyID {
	id := keyID{p.UID, p.Group, p.Key}
	if p.UID == "" {
		id.sender = p.From
	}
	return id
}

// errPanicked stands for the answer while there is none: what the hosting program does before a
// message may panic, and others wait.
var errPanicked = errors.New("the first request with this idempotency key panicked")

// claim returns what stands for the key: mine, if nothing did.
func (k *keys) claim(id keyID, mine *keyed) *keyed {
	k.mu.Lock()
	defer k.mu.Unlock()
	if first := k.byKey[id]; first != nil {
		return first
	}
	k.remember(id, mine)
	return mine
}

// remember has mine stand for a key, in the place of the oldest if need be.
func (k *keys) remember(id keyID, mine *keyed) {
	if len(k.ring) < k.most {
		k.ring = append(k.ring, id)
	} else {
		old := k.ring[k.next]
		delete(k.byKey, old)
		k.out = append(k.out, old)
		k.ring[k.next] = id
		k.next = (k.next + 1) % k.most
	}
	k.byKey[id] = mine
}

// recall remembers requests that were answered in an earlier life, the oldest first.
func (k *keys) recall(list []answered) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, a := range list {
		done := make(chan struct{})
		close(done)
		k.remember(a.id, &keyed{print: a.print, done: done, receipt: a.receipt})
	}
}

// takeForgotten returns the keys that were forgotten since it was last asked.
func (k *keys) takeForgotten() []keyID {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := k.out
	k.out = nil
	return out
}

func (k *keys) forget(id keyID, mine *keyed) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byKey[id] == mine {
		delete(k.byKey, id)
	}
}

// print identifies what a request asks for.
func print(p *Publication) (sum [sha256.Size]byte) {
	h := sha256.New()
	fmt.Fprintf(h, "%d %q %d %t\n", p.Kind, p.Event, p.TTL, p.Retain)
	h.Write(p.Body)
	h.Sum(sum[:0])
	return sum
}
