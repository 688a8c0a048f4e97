package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
)

// Requests that only the leader of a stream answers. Direct gets are also answered by servers that lag. The leader may be late,
// too: it may store a message after another server has delivered it.

// answerTimeout is how long a server may take to answer a request.
const answerTimeout = 2 * time.Second

// rawMessage is a message as the leader returns it.
type rawMessage struct {
	Subject string
	Seq     uint64
	Time    time.Time // when it was stored
	Data    []byte
}

// nextMessage returns the first message with a subject from a seq on, or nil.
func (l *Log) nextMessage(ctx context.Context, subject string, from store.Seq) (*rawMessage, error) {
	return l.askLeader(ctx, l.opts.Stream, request{Seq: from, Next: subject})
}

// nextReached is nextMessage for a hub that has seen a message at pos. Only a leader that has stored that one, too, can say that there
// is no message.
func (l *Log) nextReached(ctx context.Context, subject string, from, pos store.Seq) (*rawMessage, error) {
	m, err := l.nextMessage(ctx, subject, from)
	if err != nil || m != nil {
		return m, err
	}
	if err := l.leaderReached(ctx, pos); err != nil {
		return nil, err
	}
	return l.nextMessage(ctx, subject, from) // it may have stored one since it was asked
}

// firstMessage returns the first message with a subject, or nil.
func (l *Log) firstMessage(ctx context.Context, subject string) (*rawMessage, error) {
	return l.nextMessage(ctx, subject, 1)
}

// lastMessage returns the last message with a subject, or nil.
func (l *Log) lastMessage(ctx context.Context, subject string) (*rawMessage, error) {
	return l.askLeader(ctx, l.opts.Stream, request{Last: subject})
}

var errShort = errors.New("the leader of the stream does not have yet what another server has delivered")

// doubt is about whether a stream is still the one that was known. That it is not costs all clients their positions, so a single
// answer does not say so.
type doubt struct {
	leader string // who denies it
	since  time.Time
}

// settle reports whether an answer of the leader is about the same stream as before, with all messages up to newest. It returns
// errShort until the same leader has denied that for leaderLate.
func (d *doubt) settle(info *jetstream.StreamInfo, same bool, newest store.Seq) (known bool, err error) {
	switch {
	case same && store.Seq(info.State.LastSeq) >= newest:
		*d = doubt{}
		return true, nil
	case d.since.IsZero() || d.leader != leaderOf(info):
		*d = doubt{leaderOf(info), time.Now()}
		return false, errShort
	case time.Since(d.since) < leaderLate:
		return false, errShort
	}
	return false, nil
}

func leaderOf(info *jetstream.StreamInfo) string {
	if info.Cluster == nil {
		return ""
	}
	return info.Cluster.Leader
}

// leaderReached returns errShort if the leader has not stored yet what this hub has received up to a position. What the leader does
// not find afterwards was removed.
func (l *Log) leaderReached(ctx context.Context, pos store.Seq) error {
	_, err := l.firstReached(ctx, pos)
	return err
}

// firstReached is leaderReached, and returns the first seq of the stream.
func (l *Log) firstReached(ctx context.Context, pos store.Seq) (first store.Seq, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	info, err := l.infoReached(ctx, pos)
	if err != nil {
		return 0, err
	}
	return store.Seq(info.State.FirstSeq), nil
}

// infoReached returns what the leader says of the stream that this hub reads, in which this hub has seen a position. It returns errReplaced
// if the stream is another one, and errShort if the leader has not stored the position yet.
func (l *Log) infoReached(ctx context.Context, pos store.Seq, o ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	created := l.tail.streamCreated()
	info, err := l.streamInfo(ctx, o...)
	switch {
	case err != nil:
		return nil, err
	case !info.Created.Equal(created):
		return nil, errReplaced
	case store.Seq(info.State.LastSeq) < pos:
		return nil, errShort
	}
	return info, nil
}

// errReplaced is returned while this hub finds out which epoch the stream has, because it was made anew or may have been. What the hub knows
// of positions does not hold there.
var errReplaced = errors.New("the stream may be another one")

// errNoLeader is returned while the stream has no leader.
var errNoLeader = errors.New("the NATS servers have not agreed on a leader of the stream")

// streamInfo returns what the leader says of the stream. If there is none, one of the other servers answers, which may lack messages that the
// stream has, and that is an error. So is the answer of a leader that has not heard the others for peerTimeout: they may have elected another
// one, which has stored messages since. They do so after 4 s without a heartbeat at the earliest, so that a leader that has heard
// them is the only one. A leader that was elected just now answers when it has stored what the one before had.
func (l *Log) streamInfo(ctx context.Context, o ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	info, err := l.stream.Info(ctx, o...)
	switch {
	case err != nil:
		return nil, err
	case leaderless(info):
		return nil, errNoLeader
	case !hasMajority(info.Cluster):
		return nil, errMinority
	}
	return info, nil
}

// isUncertain reports whether an answer of a server is not believed, and another one will be before long.
func isUncertain(err error) bool {
	return errors.Is(err, errNoLeader) || errors.Is(err, errMinority) || errors.Is(err, errShort) || errors.Is(err, errReplaced)
}

func leaderless(info *jetstream.StreamInfo) bool {
	return info.Cluster != nil && info.Cluster.Leader == ""
}

func (l *Log) askLeader(ctx context.Context, stream string, r request) (*rawMessage, error) {
	if l.offline.Load() {
		return nil, errNotSent
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	m, err := l.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError
		Message *rawMessage
	}
	switch err := json.Unmarshal(m.Data, &answer); {
	case err != nil:
		return nil, err
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, nil
	case answer.Error != nil:
		return nil, answer.Error
	case answer.Message == nil:
		return nil, errors.New("the leader of the stream returns no message")
	}
	return answer.Message, nil
}
