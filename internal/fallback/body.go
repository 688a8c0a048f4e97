package fallback

import (
	"context"
	"errors"
	"io"
	"regexp"
	"time"
)

// errStopped ends a stream on which no byte came for one and a half heartbeats.
var errStopped = errors.New("nothing was received for too long: the connection is dead, or a proxy holds the stream back")

// body is the body of a stream, whose first bytes have been read already.
type body struct {
	src     io.ReadCloser
	first   []byte
	ctx     context.Context
	cancel  context.CancelCauseFunc
	starved func() // called if nothing comes after the first bytes

	limit time.Duration // 0: none
	timer *time.Timer
	more  bool
}

func newBody(ctx context.Context, cancel context.CancelCauseFunc, src io.ReadCloser, first []byte, starved func()) *body {
	b := &body{src: src, first: first, ctx: ctx, cancel: cancel, starved: starved, limit: silence(first)}
	b.timer = time.AfterFunc(time.Hour, func() { cancel(errStopped) })
	b.timer.Stop()
	return b
}

var heartbeatMember = regexp.MustCompile(`"heartbeat":"([^"]+)"`)

// silence returns how long a stream may be silent that begins with these bytes, or 0 if they do not say.
func silence(first []byte) time.Duration {
	m := heartbeatMember.FindSubmatch(first)
	if m == nil {
		return 0
	}
	every, err := time.ParseDuration(string(m[1]))
	if err != nil || every <= 0 {
		return 0
	}
	return max(every+every/2, every+time.Second)
}

// Read implements io.Reader. Only the time in Read counts, not that which the caller takes.
func (b *body) Read(p []byte) (int, error) {
	if len(b.first) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	if b.limit > 0 {
		b.timer.Reset(b.limit)
		defer b.timer.Stop()
	}
	n, err := b.src.Read(p)
	b.more = b.more || n > 0
	if err != nil && context.Cause(b.ctx) == errStopped {
		if err = errStopped; !b.more {
			b.starved()
		}
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.timer.Stop()
	b.cancel(nil)
	return b.src.Close()
}
