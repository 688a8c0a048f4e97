package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// rememberedKey is the key of what the bucket knows of the stream.
const rememberedKey = "log"

// remembered is what the bucket knows of the stream.
type remembered struct {
	Epoch   string
	Past    []string  `json:",omitempty"` // the epochs before it
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
	r := l.tail.knowledge()
	if reflect.DeepEqual(r, l.wrote) {
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

// knowledge returns what the tail knows of the stream.
func (t *tail) knowledge() remembered {
	t.mu.Lock()
	defer t.mu.Unlock()
	return remembered{t.l.epoch(), t.past, t.created, t.reached}
}

// maxPast is how many epochs are remembered that have ended.
const maxPast = 64

// ended returns the past epochs if another one has ended.
func ended(past []string, epoch string) []string {
	if epoch == "" || slices.Contains(past, epoch) {
		return past
	}
	return append(slices.Clone(past[max(len(past)-maxPast+1, 0):]), epoch)
}

// findEpoch returns the epoch of the stream when the log is opened. The first hub of a stream chooses it, and so does
// the first one that finds another stream than the one that is remembered. A stream with a past epoch is an older one: the ids
// behind its end were given to other messages.
func (l *Log) findEpoch(ctx context.Context, info *jetstream.StreamInfo) (f found, err error) {
	was, err := l.recall(ctx)
	if err != nil {
		return f, err
	}
	same := false
	if was.Epoch != "" {
		if same, err = l.tail.doubt.settle(info, info.Created.Equal(was.Created), was.Newest); err != nil {
			return f, err
		}
	}
	for {
		epoch, at, err := l.storedEpoch(ctx)
		switch {
		case err != nil:
			return f, err
		case epoch == "" && same:
			return found{epoch: was.Epoch, past: was.Past, purged: true}, nil
		case epoch == was.Epoch && same:
			return found{epoch: epoch, past: was.Past}, nil
		}
		past := ended(was.Past, was.Epoch)
		if epoch == "" || slices.Contains(past, epoch) {
			epoch = store.NewEpoch()
			err = l.writeEpoch(ctx, epoch, at)
		}
		if !errors.Is(err, store.ErrConflict) {
			return found{epoch: epoch, past: past}, err
		}
	}
}

// purgedAtStart writes what a stream has lost that was purged while no hub was running. A server that led the stream before may still
// answer, and not know of the purge. One that has stored a note of this hub has done everything that was asked before.
func (l *Log) purgedAtStart(ctx context.Context) error {
	note, err := l.mark(ctx, []keyedMark{lostMark(0)})
	if err != nil {
		return err
	}
	var lost store.Seq
	err = patiently(ctx, func(ctx context.Context) error {
		info, err := l.streamInfo(ctx)
		switch {
		case err != nil:
			return err
		case store.Seq(info.State.LastSeq) < note.Seq:
			return errShort
		}
		lost = store.Seq(info.State.FirstSeq) - 1
		return nil
	})
	if err != nil {
		return err
	}
	l.opts.Logger.Warn("the stream was purged, not by a hub", "up to", lost)
	return l.renewEpoch(ctx, lost)
}

// renewEpoch writes the note of the epoch again, which was removed from the stream by somebody else with all messages before it.
// What says that they are lost is stored with it: a hub that finds the note does not look for them.
func (l *Log) renewEpoch(ctx context.Context, lost store.Seq) error {
	_, err := l.mark(ctx, []keyedMark{lostMark(lost)}, store.Note{Key: epochKey, Value: []byte(l.epoch())})
	return err
}

// lostMark returns the mark that says that any group may have lost messages up to a position.
func lostMark(through store.Seq) keyedMark {
	now := time.Now()
	return groupMark(mark{Eviction: memory.Eviction{Group: everyGroup, Through: through, Time: now, Unknown: true}, Written: now})
}

// nextEpoch returns the epoch of a stream that is not the one that the log knows.
func (l *Log) nextEpoch(ctx context.Context) (string, error) {
	past := ended(l.tail.knowledge().Past, l.epoch())
	for {
		epoch, at, err := l.storedEpoch(ctx)
		if err != nil || epoch != "" && !slices.Contains(past, epoch) {
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
	t.past = ended(t.past, t.l.epoch())
	t.created, t.replaced = info.Created, false
	t.at, t.proof, t.reached, t.folding = 0, proof{}, 0, store.Seq(info.State.LastSeq)
	t.flow.seq, t.woken.seq = 0, 0
	for _, a := range t.waiting {
		a.err = errRenewed
		close(a.done)
	}
	t.waiting = nil
	t.unfinished, t.placing, t.holes, t.purged = nil, placing{}, holes{}, nil
	t.noted.begin(0)
	t.l.mem.Reset(epoch, 0)
	t.l.notes.reset(epoch)
	t.l.pending.renew()
	t.l.room.reset()
}

// adopt is called when the stream says that it has another epoch. A server that lags may still have the note of one that has ended.
func (t *tail) adopt(epoch string) {
	if epoch != t.l.epoch() && !slices.Contains(t.past, epoch) {
		t.replaced = true
		t.endLife()
		t.restart()
	}
}
