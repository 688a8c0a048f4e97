package jetstream

import (
	"context"
	"errors"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
)

// epoch returns the epoch of the log.
func (l *Log) epoch() string {
	_, newest := l.mem.Bounds()
	return newest.Epoch
}

// findEpoch returns the epoch of the stream. The first hub of a stream chooses it.
func (l *Log) findEpoch(ctx context.Context) (string, error) {
	for {
		m, err := l.stream.GetLastMsgForSubject(ctx, l.subjects.note(epochKey))
		if err == nil {
			var r record
			if err := r.decode(m.Data); err != nil {
				return "", err
			}
			return string(r.value), nil
		}
		if !errors.Is(err, jetstream.ErrMsgNotFound) {
			return "", err
		}
		epoch, err := l.writeEpoch(ctx, 0)
		if err == nil || !errors.Is(err, store.ErrConflict) {
			return epoch, err
		}
	}
}

// writeEpoch writes a new epoch that replaces a version of the note. It returns store.ErrConflict if another hub
// was faster.
func (l *Log) writeEpoch(ctx context.Context, prev store.Seq) (string, error) {
	epoch := store.NewEpoch()
	r := record{flags: isNote, by: appendID{l.self, 0}, key: epochKey, value: []byte(epoch), prev: prev}
	m := &nats.Msg{
		Subject: l.subjects.note(epochKey), Data: r.encode(nil),
		Header: nats.Header{headerRollup: {"sub"}, headerGuard: {strconv.FormatUint(uint64(prev), 10)}},
	}
	_, err := l.js.PublishMsg(ctx, m)
	var refused *jetstream.APIError
	if errors.As(err, &refused) && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return "", store.ErrConflict
	}
	return epoch, err
}
