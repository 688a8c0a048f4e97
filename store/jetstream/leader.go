package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
)

// Requests that only the leader of a stream answers. Direct gets are also answered by servers that lag.

// answerTimeout is how long a server may take to answer a request.
const answerTimeout = 2 * time.Second

// rawMessage is a message as the leader returns it.
type rawMessage struct {
	Subject string
	Seq     uint64
	Data    []byte
}

// nextMessage returns the first message from a seq on, or nil.
func (l *Log) nextMessage(ctx context.Context, from store.Seq) (*rawMessage, error) {
	return l.askLeader(ctx, l.opts.Stream, request{Seq: from, Next: ">"})
}

// firstMessage returns the first message with a subject, or nil.
func (l *Log) firstMessage(ctx context.Context, subject string) (*rawMessage, error) {
	return l.askLeader(ctx, l.opts.Stream, request{Seq: 1, Next: subject})
}

// lastMessage returns the last message with a subject, or nil.
func (l *Log) lastMessage(ctx context.Context, subject string) (*rawMessage, error) {
	return l.askLeader(ctx, l.opts.Stream, request{Last: subject})
}

func (l *Log) askLeader(ctx context.Context, stream string, r request) (*rawMessage, error) {
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
