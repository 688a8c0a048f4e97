package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// startPatience is how long Open waits for servers that elect a leader, or that create the stream for
	// another hub.
	startPatience = 30 * time.Second
	startAttempt  = 3 * time.Second // of it, for one attempt: while several hubs create a stream, the servers leave some requests unanswered
	startPause    = 100 * time.Millisecond
)

// findStream finds or creates the stream and its epoch. Several hubs may do so at once.
func (l *Log) findStream(ctx context.Context) (epoch string, err error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		epoch, err = l.tryToFindStream(ctx)
		if err == nil || !passing(err) {
			return epoch, err
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(startPause):
		}
	}
}

func (l *Log) tryToFindStream(ctx context.Context) (epoch string, err error) {
	ctx, cancel := context.WithTimeout(ctx, startAttempt)
	defer cancel()
	if l.stream, err = ensureStream(ctx, l.js, l.opts.Stream, l.opts.Replicas); err != nil {
		return "", err
	}
	if epoch, err = l.findEpoch(ctx); err != nil {
		return "", fmt.Errorf("the epoch of the stream %s: %w", l.opts.Stream, err)
	}
	return epoch, nil
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
