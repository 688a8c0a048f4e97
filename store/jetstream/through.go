package jetstream

import (
	"context"
	"errors"
	"time"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// PurgeThrough implements store.Shared.
func (l *Log) PurgeThrough(name string, through store.ID) error {
	ctx, cancel := l.changing()
	defer cancel()
	defer context.AfterFunc(l.blocked, cancel)()
	if through.Epoch != l.epoch() {
		return nil
	}
	if err := l.tail.waitForID(ctx, through); err != nil {
		return l.notReached(err)
	}
	if g := l.group(name); through.Epoch != l.epoch() || (g.Oldest == 0 || g.Oldest > through.Seq) && !g.Retained {
		return nil
	}
	now := time.Now()
	_, err := l.markIn(ctx, through.Epoch, []keyedMark{groupMark(mark{
		Eviction: memory.Eviction{Group: name, Through: through.Seq, Time: now, Unknown: true}, Retained: through.Seq, Cleared: true, Written: now,
	})})
	if errors.Is(err, errRenewed) {
		return nil
	}
	return err
}

// notReached returns the error of a change that waits for a position in vain; nil if the stream is another one, which has nothing to change.
func (l *Log) notReached(err error) error {
	switch {
	case l.blocked.Err() != nil:
		return store.ErrClosed
	case errors.Is(err, errRenewed):
		return nil
	}
	return store.ErrAway
}
