package disk

import (
	"slices"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

const (
	maxParked = 16                     // the most parked walks
	maxAge    = 100 * time.Millisecond // how long a walk may live: it keeps deleted files on disk
)

// walk iterates over all messages as they were when it began. A reader that catches up reads batch by batch,
// and finding its position again would take longer than reading the batch. Therefore a walk that stopped at a
// full batch is parked for the next read from there.
type walk struct {
	*cursor
	through store.Seq // the walk includes all messages up to here
	ends    time.Time
	timer   *time.Timer // ends it while it is parked
}

// walkFrom returns a walk from the first message with the given seq or a later one.
func (l *Log) walkFrom(seq store.Seq) (*walk, error) {
	if w := l.parked.take(seq); w != nil {
		return w, nil
	}
	through := store.Seq(l.newest.Load()) // read before the cursor is made, which may see newer messages
	c, err := l.engine.cursor(seqKey(messageSpace, seq), keyAfter(messageSpace))
	if err != nil {
		return nil, err
	}
	c.First()
	return &walk{cursor: c, through: through, ends: time.Now().Add(maxAge)}, nil
}

// parking holds parked walks.
type parking struct {
	mu    sync.Mutex
	walks []*walk // the oldest first
}

// park keeps a walk at its message until its time ends.
func (p *parking) park(w *walk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.walks) == maxParked {
		p.close(p.walks[0])
	}
	p.walks = append(p.walks, w)
	w.timer = time.AfterFunc(time.Until(w.ends), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if slices.Contains(p.walks, w) {
			p.close(w)
		}
	})
}

// take returns the walk that is parked at a message, or nil.
func (p *parking) take(seq store.Seq) *walk {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.walks, func(w *walk) bool { return seqOf(w.Key()) == seq })
	if i < 0 {
		return nil
	}
	w := p.walks[i]
	p.walks = slices.Delete(p.walks, i, i+1)
	w.timer.Stop()
	return w
}

// close ends a parked walk. Its errors were returned by the read that used it.
func (p *parking) close(w *walk) {
	p.walks = slices.DeleteFunc(p.walks, func(x *walk) bool { return x == w })
	w.timer.Stop()
	_ = w.Close()
}

// clear ends all parked walks.
func (p *parking) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.walks) > 0 {
		p.close(p.walks[0])
	}
}
