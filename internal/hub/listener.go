package hub

import (
	"context"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// What the owner of a stream with a codec does with it, besides Run and Cancel.

// Join adds a filter to this stream of its session, from now on, within the limits of all streams. Before that, it gets
// the retained messages, if they are wanted, and the messages that from asks for.
func (l *Listener) Join(f group.Filter, retained bool, from From) error {
	if err := readable(f); err != nil {
		return err
	}
	o := delivery.JoinOptions{Retained: retained}
	if from != (From{}) {
		start, _, err := l.hub.start(context.Background(), group.Set{f}, from)
		if err != nil {
			return err
		}
		o.After = &start.After
	}
	return l.attachment.Join(f, l.hub.opts.MaxFilters, func() error { return l.stream.JoinFrom(f, o) })
}

// Rejoin continues a Join of an earlier stream with the same filter, which did not send everything that the options say. It
// must be called before Run.
func (l *Listener) Rejoin(f group.Filter, o delivery.JoinOptions) error {
	return l.stream.JoinFrom(f, o)
}

// Leave removes a filter from this stream of its session.
func (l *Listener) Leave(f group.Filter) error { return l.attachment.Leave(f) }

// Resume tells that the codec takes messages again. It is cheap.
func (l *Listener) Resume() { l.stream.Resume() }

// Farewell tells that the client has said goodbye. It must be called before the stream ends; see session.Attachment.
func (l *Listener) Farewell() { l.attachment.Farewell() }

// Keep tells that the session is gone once it has been lost for a time after this stream, if that is sooner than otherwise. See
// Farewell.
func (l *Listener) Keep(lost time.Duration) { l.attachment.Keep(lost) }

// End ends the stream with the codec's last bytes.
func (l *Listener) End(why delivery.Reason) { l.stream.End(why) }

// Gone tells that the connection has failed, if the connection does not tell it itself (see sse.Conn).
func (l *Listener) Gone(err error) { l.stream.Gone(err) }

// Position returns a recent position of the stream: everything up to it was sent, or rendered by the codec.
func (l *Listener) Position() store.ID {
	return store.ID{Epoch: l.stream.Epoch(), Seq: l.stream.Position()}
}
