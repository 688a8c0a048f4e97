package jetstream

import (
	"context"
	"errors"

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
	status, err := b.Status(ctx)
	switch {
	case err != nil:
		return err
	case status.TTL() > 0 || status.Config().Storage != jetstream.FileStorage:
		return errors.New("it must have no TTL and file storage: remove it, so that the hub creates it again")
	}
	return nil
}
