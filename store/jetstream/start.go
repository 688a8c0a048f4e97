package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
)

const (
	// startPatience is how long Open waits for servers that elect a leader, or that create the stream for
	// another hub.
	startPatience = 30 * time.Second
	startAttempt  = 3 * time.Second // of it, for one attempt: while several hubs create a stream, the servers leave some requests unanswered
	startPause    = 100 * time.Millisecond
)

// found is the stream that a log finds when it is opened.
type found struct {
	epoch   string
	created time.Time
	lost    store.Seq // messages up to here were removed by somebody else, while no hub was running; 0: none
}

// findStream finds or creates the stream, its bucket and its epoch. Several hubs may do so at once.
func (l *Log) findStream(ctx context.Context) (f found, err error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		f, err = l.tryToFindStream(ctx)
		if err == nil || !passing(err) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return f, err
		case <-time.After(startPause):
		}
	}
}

func (l *Log) tryToFindStream(ctx context.Context) (f found, err error) {
	ctx, cancel := context.WithTimeout(ctx, startAttempt)
	defer cancel()
	if l.stream, err = ensureStream(ctx, l.js, l.opts.Stream, l.opts.Replicas); err != nil {
		return f, err
	}
	if err = l.openBucket(ctx); err != nil {
		return f, fmt.Errorf("the key-value bucket %s: %w", l.opts.Stream+bucketSuffix, err)
	}
	info := l.stream.CachedInfo()
	f.created = info.Created
	if f.epoch, f.lost, err = l.findEpoch(ctx, info); err != nil {
		return f, fmt.Errorf("the epoch of the stream %s: %w", l.opts.Stream, err)
	}
	return f, nil
}

// passing reports whether an error passes when the servers have agreed on a leader.
func passing(err error) bool {
	var refused *jetstream.APIError
	if errors.As(err, &refused) {
		switch refused.ErrorCode {
		case 10005, 10008, 10023: // no suitable peers, temporarily unavailable, insufficient resources
			return true
		}
		return false
	}
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		errors.Is(err, context.DeadlineExceeded)
}
