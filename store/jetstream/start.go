package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	past    []string // the epochs before it
	purged  bool     // somebody else has removed the note of the epoch, while no hub was running
	created time.Time
	counted store.Seq // the messages up to here are counted
}

// patiently calls attempt until it succeeds, or fails for a reason that will not pass.
func patiently(ctx context.Context, attempt func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		once, end := context.WithTimeout(ctx, startAttempt)
		err := attempt(once)
		end()
		if err == nil || !passing(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(startPause):
		}
	}
}

// findStream finds or creates the stream, its bucket and its epoch. Several hubs may do so at once.
func (l *Log) findStream(ctx context.Context) (f found, err error) {
	if err = l.checkAccount(ctx); err != nil {
		return f, err
	}
	if l.stream, err = ensureStream(ctx, l.js, l.opts.Stream, l.opts.Replicas); err != nil {
		return f, err
	}
	if err = l.openBucket(ctx); err != nil {
		return f, fmt.Errorf("the key-value bucket %s: %w", l.opts.Stream+bucketSuffix, advised(err, l.opts.Stream))
	}
	c, err := l.recallCounts(ctx) // before what else is remembered: see janitor.write
	if err != nil {
		return f, fmt.Errorf("the key-value bucket %s: %w", l.opts.Stream+bucketSuffix, err)
	}
	info := l.stream.CachedInfo()
	if f, err = l.findEpoch(ctx, info); err != nil {
		return f, fmt.Errorf("the epoch of the stream %s: %w", l.opts.Stream, err)
	}
	f.created, f.counted = info.Created, c.of(f.epoch).At
	return f, nil
}

// checkAccount returns an error if the account has no JetStream.
func (l *Log) checkAccount(ctx context.Context) error {
	_, err := l.js.AccountInfo(ctx)
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return errors.New("the NATS server has no JetStream: add a jetstream block to its configuration, as docs/CLUSTER.md shows")
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return errors.New("JetStream is not enabled for the NATS account: enable it in the account's configuration")
	}
	return err
}

// advice says what to do if the servers refuse to create a stream. NAME stands for its name.
var advice = map[jetstream.ErrorCode]string{
	10002: "raise the storage limit of the NATS account",
	10005: "start enough NATS servers with JetStream, or pass a lower --nats-replicas",
	10026: "each hub needs a consumer, and two for a moment: raise max_consumers of the stream NAME or of the NATS account",
	10023: "the NATS servers have no storage left: raise max_file_store",
	10027: "raise the limit of streams of the NATS account: the hubs need two, NAME and KV_NAME_hubs",
	10028: "raise the memory limit of the NATS account",
	10047: "raise the storage limit of the NATS account, and max_file_store of the servers",
	10065: "another stream has subjects that begin with wb.NAME: remove it, or choose another name with --nats-stream",
	10113: "the account requires max_bytes of each stream: remove this limit (max_bytes_required)",
	10120: "the account has no limits for streams on so many servers: add a tier, or change --nats-replicas",
}

// advised adds to an error of the servers what to do.
func advised(err error, stream string) error {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	if !ok || advice[refused.ErrorCode] == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.ReplaceAll(advice[refused.ErrorCode], "NAME", stream))
}

// passing reports whether an error passes when the servers have agreed on a leader.
func passing(err error) bool {
	var refused *jetstream.APIError
	switch {
	case errors.Is(err, errRenewed):
		return false
	case errors.As(err, &refused):
		switch refused.ErrorCode {
		case 10005, 10008: // no suitable peers, temporarily unavailable
			return true
		}
		return false
	}
	return isUncertain(err) || errors.Is(err, store.ErrAway) || errors.Is(err, store.ErrUnknownOutcome) ||
		errors.Is(err, errNotSent) || errors.Is(err, nats.ErrReconnectBufExceeded) ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		errors.Is(err, context.DeadlineExceeded)
}
