package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// bucketSuffix is behind the name of the stream in the name of its bucket. The bucket is the memory of the stream beside it,
// so that a stream that was made anew or restored from a backup is noticed even if no hub was running.
const bucketSuffix = "_hubs"

// bucket is a key-value bucket.
type bucket interface {
	Get(ctx context.Context, key string) (value []byte, revision uint64, err error) // 0: there is none
	Put(ctx context.Context, key string, value []byte) (revision uint64, err error)
	Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error)

	// Remove removes the version of a key if its revision is below the given one; 0: in any case. It needs no room. The next one
	// is an update of revision 0.
	Remove(ctx context.Context, key string, below uint64) error
}

// leaderBucket is a bucket that is read from its leader. The client of NATS asks any server that has it, which may lag.
type leaderBucket struct {
	jetstream.KeyValue
	l *Log
}

// Get implements bucket.
func (b leaderBucket) Get(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	m, err := b.l.askLeader(ctx, b.l.bucketStream(), request{Last: b.subject(key)})
	if err != nil || m == nil {
		return nil, 0, err
	}
	return m.Data, m.Seq, nil
}

// Remove implements bucket. The client of NATS stores a marker in place of what it removes, which needs room.
func (b leaderBucket) Remove(ctx context.Context, key string, below uint64) error {
	s, err := b.l.js.Stream(ctx, b.l.bucketStream())
	if err != nil {
		return err
	}
	o := []jetstream.StreamPurgeOpt{jetstream.WithPurgeSubject(b.subject(key))}
	if below > 0 {
		o = append(o, jetstream.WithPurgeSequence(below))
	}
	return s.Purge(ctx, o...)
}

func (b leaderBucket) subject(key string) string { return "$KV." + b.Bucket() + "." + key }

// bucketStream returns the name of the bucket's stream.
func (l *Log) bucketStream() string { return "KV_" + l.opts.Stream + bucketSuffix }

// openBucket opens the bucket, which it creates if it does not exist.
func (l *Log) openBucket(ctx context.Context) error {
	name := l.opts.Stream + bucketSuffix
	if err := l.checkBucket(ctx); err != nil {
		return err
	}
	b, err := l.js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		b, err = l.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: name, Description: "what the hubs of Watchbox remember of their stream", Replicas: l.stream.CachedInfo().Config.Replicas,
		})
		if errors.Is(err, jetstream.ErrBucketExists) { // another hub was faster, with other replicas
			b, err = l.js.KeyValue(ctx, name)
		}
	}
	if err != nil {
		return err
	}
	l.bucket = leaderBucket{b, l}
	return nil
}

// checkBucket returns an error if the bucket exists and cannot be used. Otherwise counts could not be stored, and nobody would be told of a purge while
// no hub runs.
func (l *Log) checkBucket(ctx context.Context) error {
	s, err := l.js.Stream(ctx, l.bucketStream())
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil
	case err != nil:
		return err
	}
	return verifyBucket(&s.CachedInfo().Config)
}

// Limits that a bucket must allow.
const (
	minBucketBytes   = 1 << 20   // two versions of what is below
	minBucketMsgSize = 128 << 10 // the counts, with the removals of many hubs
)

// verifyBucket returns an error that says what to change if the configuration of a bucket's stream breaks a promise.
func verifyBucket(c *jetstream.StreamConfig) error {
	subject := "$KV." + strings.TrimPrefix(c.Name, "KV_") + ".>"
	return refused(c, []fault{
		{!slices.Equal(c.Subjects, []string{subject}), fmt.Sprintf("its subjects must be %q", []string{subject})},
		{c.Retention != jetstream.LimitsPolicy, "its retention must be limits"},
		{c.Storage != jetstream.FileStorage, "its storage must be file: with memory storage, nobody notices after a restart of the servers that the stream is another one"},
		{c.MaxAge > 0, "max_age must not be set: it must have no TTL"},
		{c.MaxMsgs > 0, "max_msgs must not be set"},
		{c.MaxMsgsPerSubject < 1, "max_msgs_per_subject must be 1"},
		{c.DiscardNewPerSubject, "discard_new_per_subject must be false"},
		{c.MaxBytes > 0 && c.MaxBytes < minBucketBytes, fmt.Sprintf("max_bytes must be at least %d, or not be set", minBucketBytes)},
		{c.MaxMsgSize > 0 && c.MaxMsgSize < minBucketMsgSize, fmt.Sprintf("max_msg_size must be at least %d, or not be set", minBucketMsgSize)},
		{c.NoAck, "it must acknowledge: no_ack must be false"},
		{c.Sealed, "it is sealed: remove it, so that the hub creates it again"},
		{c.DenyPurge, "deny_purge must be false"},
		{c.PersistMode != jetstream.DefaultPersistMode, "its persist mode must be default"},
		{c.AllowMsgCounter, "allow_msg_counter must be false"},
		{c.Mirror != nil || len(c.Sources) > 0 || c.RePublish != nil || c.SubjectTransform != nil, "it must have no mirror, sources, republish or subject transform"},
	})
}
