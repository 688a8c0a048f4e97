package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
)

// rememberedKey is the key of what the bucket knows of the stream.
const rememberedKey = "log"

// remembered is what the bucket knows of the stream.
type remembered struct {
	Epoch   string
	Created time.Time // when the stream was created
	Newest  store.Seq // it had at least this seq
}

// epoch returns the epoch of the log.
func (l *Log) epoch() string {
	_, newest := l.mem.Bounds()
	return newest.Epoch
}

// recall returns what the bucket knows of the stream; the zero value if it is new.
func (l *Log) recall(ctx context.Context) (r remembered, err error) {
	value, _, err := l.bucket.Get(ctx, rememberedKey)
	if err != nil || len(value) == 0 {
		return r, err
	}
	return r, json.Unmarshal(value, &r)
}

// remember writes what is known of the stream into the bucket.
func (l *Log) remember(ctx context.Context) error {
	r := remembered{l.epoch(), l.tail.streamCreated(), l.tail.position()}
	if r == l.wrote {
		return nil
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err = l.bucket.Put(ctx, rememberedKey, b); err == nil {
		l.wrote = r
	}
	return err
}

// findEpoch returns the epoch of the stream when the log is opened. The first hub of a stream chooses it, and so does
// the first one that finds another stream than the one that is remembered. lost is not 0 if messages up to there
// were removed from the stream by somebody else.
func (l *Log) findEpoch(ctx context.Context, info *jetstream.StreamInfo) (epoch string, lost store.Seq, err error) {
	was, err := l.recall(ctx)
	if err != nil {
		return "", 0, err
	}
	last := store.Seq(info.State.LastSeq)
	same := was.Created.Equal(info.Created) && last >= was.Newest
	for {
		epoch, at, err := l.storedEpoch(ctx)
		if err != nil {
			return "", 0, err
		}
		switch {
		case epoch == "" && same: // the stream was purged
			epoch, lost = was.Epoch, store.Seq(info.State.FirstSeq)-1
		case epoch == "" || epoch == was.Epoch && !same:
			epoch = store.NewEpoch()
		default:
			return epoch, lost, nil
		}
		if err := l.writeEpoch(ctx, epoch, at); err == nil || !errors.Is(err, store.ErrConflict) {
			return epoch, lost, err
		}
	}
}

// nextEpoch returns the epoch of a stream that is not the one that the log knows.
func (l *Log) nextEpoch(ctx context.Context) (string, error) {
	for {
		epoch, at, err := l.storedEpoch(ctx)
		if err != nil || epoch != "" && epoch != l.epoch() {
			return epoch, err
		}
		epoch = store.NewEpoch()
		if err := l.writeEpoch(ctx, epoch, at); err == nil || !errors.Is(err, store.ErrConflict) {
			return epoch, err
		}
	}
}

// storedEpoch returns the epoch that the stream has, and the position of its note; "" if it has none.
func (l *Log) storedEpoch(ctx context.Context) (epoch string, at store.Seq, err error) {
	m, err := l.lastMessage(ctx, l.subjects.note(epochKey))
	if err != nil || m == nil {
		return "", 0, err
	}
	var r record
	if err := r.decode(m.Data); err != nil {
		return "", 0, err
	}
	return string(r.value), store.Seq(m.Seq), nil
}

// writeEpoch writes an epoch that replaces a version of the note. It returns store.ErrConflict if another hub was faster.
func (l *Log) writeEpoch(ctx context.Context, epoch string, prev store.Seq) error {
	r := record{flags: isNote, by: appendID{l.self, 0}, key: epochKey, value: []byte(epoch), prev: prev, version: 1}
	m := &nats.Msg{
		Subject: l.subjects.note(epochKey), Data: r.encode(nil),
		Header: nats.Header{headerRollup: {"sub"}, headerGuard: {strconv.FormatUint(uint64(prev), 10)}},
	}
	_, err := l.js.PublishMsg(ctx, m)
	if isConflict(err) {
		return store.ErrConflict
	}
	return err
}

// isConflict reports whether the servers refuse a message because of its guard. While another message with the
// subject is being stored, they cannot say the sequence, and have another code for that.
func isConflict(err error) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) &&
		(refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || refused.ErrorCode == wrongSequenceUnknown)
}

// renew makes the log that of another stream or epoch: it is empty, and reads the stream from its first message.
func (t *tail) renew(epoch string, info *jetstream.StreamInfo) {
	t.l.opts.Logger.Warn("the stream is not the one that this hub knows: a new epoch begins", "stream", t.l.opts.Stream, "epoch", epoch)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.life++
	t.created, t.replaced = info.Created, false
	t.at, t.reached, t.folding = 0, 0, store.Seq(info.State.LastSeq)
	t.unfinished, t.placing, t.holes, t.noted = nil, placing{}, holes{}, nil
	t.l.mem.Reset(epoch, 0)
	t.l.notes.reset(epoch)
	t.l.room.reset()
}

// adopt is called when the stream says that it has another epoch.
func (t *tail) adopt(epoch string) {
	if epoch != t.l.epoch() {
		t.replaced = true
		t.life++
		t.restart()
	}
}
