package delivery

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/sse"
	"github.com/watchbox-go/watchbox/store"
)

// Reason says why a stream ended.
type Reason string

// The reasons for which a stream ends by itself. Those that a server ends it for are its own.
const (
	Closed  Reason = "closed"  // by the other side
	Timeout Reason = "timeout" // the other side did not acknowledge what it was sent
	Slow    Reason = "slow"    // it did not keep up, and the policy says to end it
)

// Start is where a stream begins.
type Start struct {
	After store.Seq // the position: what is behind it is delivered

	// Held is set for a stream that begins with what is held, whatever was there before: what is
	// lost by then is no gap to it.
	Held bool

	// Retained has the retained messages that the stream matches sent first.
	Retained bool

	// Live is set for a position that was the end of the log when the stream was asked for: it is
	// owed all that came since, also what a policy evicted a moment ago.
	Live bool

	// Unknown is the id that the client gave and that this log never had; "" if it was good.
	Unknown string
}

// Config is what a stream is made of.
type Config struct {
	Filters   group.Set
	UID       string // of its session: it also gets what is sent to SessionGroup of that
	View      View
	Heartbeat time.Duration // after so long without a message; above 0
	Start     Start

	// Done is called once, when the stream has ended, from a goroutine that may wait.
	Done func(Reason)
}

// SessionPrefix, and a uid, is the group of what is sent to one session.
const SessionPrefix = "$session/"

// Stream is a listener's position in the log. There are many, most of them idle: it is small.
type Stream struct {
	conn   sse.Conn
	shard  *shard
	done   func(Reason)
	gone   atomic.Pointer[Reason] // the other side has closed it
	parked atomic.Bool            // the shard owns it
	ending atomic.Pointer[Reason] // the server wants it to end

	mark         atomic.Uint64            // a position that it had
	changes      atomic.Pointer[[]change] // of its filters, to come
	sentMessages atomic.Uint64
	sentBytes    atomic.Uint64

	// Its owner's: the goroutine that follows, or the shard where it is parked.
	filters   group.Set // that the client has named
	uid       string
	view      View
	live      bool      // it has had all there was once
	skip      bool      // it goes on with the newest
	pos       store.Seq // all up to here was sent
	told      uint64    // what was lost before this was told
	opening   *opening  // nil once it is over
	heartbeat time.Duration
	coalesce  time.Duration
	sent      instant // when it was last written to

	// The shard's.
	due    instant // when the shard has to look at it
	dueAt  int32   // where the heap of dues has it; -1: nowhere
	rests  bool    // it is coalesced, and follows when it is due
	at     int32   // where the shard's list of all its streams has it
	places []place // where it is in the index
	next   *Stream // of the same session, in the index
}

// opening is what a stream needs to know until it has begun.
type opening struct {
	held     bool      // see Start,
	unknown  string    // too
	set      group.Set // whose retained messages are to be sent:
	retained store.Seq // up to here they were,
	to       store.Seq // and up to here they are to be
}

// instant is a time as what has passed since the process began: a third of a time.Time, and not
// moved when somebody sets the clock.
type instant time.Duration

var began = time.Now()

func now() instant { return instant(time.Since(began)) }

func (t instant) add(d time.Duration) instant { return t + instant(d) }

// finish ends the stream. Its owner calls it, and nobody owns it afterwards.
func (s *Stream) finish(why Reason) {
	if heard := s.gone.Load(); heard != nil {
		why = *heard
	}
	if want := s.ending.Load(); want != nil {
		why = *want
	}
	_ = s.conn.Close()
	s.done(why)
	s.shard.post(func() { s.shard.forget(s) })
}

// bye writes the last event of a stream that the server ends.
func (s *Stream) bye() []byte {
	why := s.ending.Load()
	if why == nil {
		return nil
	}
	data := append(store.AppendQuote([]byte(`{"reason":`), string(*why)), '}')
	return sse.AppendEvent(nil, "bye", "", data)
}

// End ends the stream with a last event that says why. It may be called at any time, even before
// the stream runs.
func (s *Stream) End(why Reason) {
	if s.ending.CompareAndSwap(nil, &why) {
		s.shard.post(func() { s.shard.end(s) })
	}
}

// Gone is to be called when the other side has closed the connection, with what the connection
// says of it.
func (s *Stream) Gone(err error) {
	why := reason(err)
	if !s.gone.CompareAndSwap(nil, &why) {
		return
	}
	_ = s.conn.Close() // whoever follows hears of it by his next write
	s.shard.post(func() { s.shard.gone(s) })
}

// reason returns why a stream ends whose connection has failed.
func reason(err error) Reason {
	if err == errSlow {
		return Slow
	}
	if t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && t.Timeout() {
		return Timeout
	}
	return Closed
}

// Run delivers to a connection, which has been given what comes before the first message. It
// returns when the stream is at the end of the log, where it parks, or has ended. It returns false
// if the set is closed: then the stream never was.
func (s *Stream) Run(conn sse.Conn) bool {
	s.conn, s.sent = conn, now()
	if !s.shard.join(s) {
		s.ending.CompareAndSwap(nil, &s.shard.why)
		s.part()
		return false
	}
	s.follow()
	return true
}

// part says bye to whoever came as the set was closed.
func (s *Stream) part() {
	if s.conn.Blocking() {
		_, _ = s.conn.Write(s.bye()) // he is gone, then
		return
	}
	_, _ = s.conn.TryWrite(s.bye())
}

// Position returns a position that the stream has reached, and hardly ever left.
func (s *Stream) Position() store.Seq {
	if s.parked.Load() {
		return store.Seq(s.shard.pos.Load())
	}
	return store.Seq(s.mark.Load())
}

// Sent returns how many messages and bytes the stream was sent.
func (s *Stream) Sent() (messages, bytes uint64) { return s.sentMessages.Load(), s.sentBytes.Load() }

// selects returns, in a buffer, what the stream gets: what its filters match, and what is sent to
// its session.
func (s *Stream) selects(buf *group.Set) group.Set {
	*buf = append(append((*buf)[:0], s.filters...), group.Exact(SessionPrefix+s.uid))
	return *buf
}

// early reports whether messages for the stream are to wait for others to be sent with.
func (s *Stream) early(now instant) bool {
	return s.coalesce > 0 && now < s.sent.add(s.coalesce)
}

// wrote counts a write.
func (s *Stream) wrote(n, messages int) {
	if n == 0 {
		return
	}
	s.sentMessages.Add(uint64(messages))
	s.sentBytes.Add(uint64(n))
	s.shard.set.stats.wrote(n, messages)
}
