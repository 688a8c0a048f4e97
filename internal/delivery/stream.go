package delivery

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/sse"
	"github.com/watchbox-go/watchbox/store"
)

// Reason says why a stream ended.
type Reason string

// The reasons for which a stream ends by itself. End is called with other reasons.
const (
	Closed  Reason = "closed"  // by the client
	Timeout Reason = "timeout" // the client stopped acknowledging data
	Slow    Reason = "slow"    // it did not keep up, and the policy ends it or there is no room for its unsent bytes
)

// Start is where a stream begins.
type Start struct {
	After store.Seq // the position: messages after it are delivered

	// Held is set for a stream that asked for the messages that are held. It gets no gap for messages
	// that were evicted before it started.
	Held bool

	// Retained is set if the retained messages that match are sent first.
	Retained bool

	// Live is set if the position was the end of the log at the client's request. The stream gets every
	// message since then, even one that a policy has evicted in the meantime, if the store still has it.
	Live bool

	Epoch string // the epoch of the position; "": the one that the log has now

	// Unknown is the id that the client sent, if this log never had it, and otherwise "".
	Unknown string
}

// Config describes a new stream.
type Config struct {
	Filters   group.Set
	UID       string // of its session; the stream also gets the messages to SessionPrefix+UID
	View      View
	Heartbeat time.Duration // time without a message after which a heartbeat is sent; above 0
	Start     Start

	// Codec renders the messages; nil: the stream is an event stream.
	Codec Codec

	// Done is called once, when the stream has ended, from a goroutine that may wait.
	Done func(Reason)
}

// SessionPrefix followed by a uid is the group of the messages to one session.
const SessionPrefix = "$session/"

// Stream is a client's position in the log. There are many and most are idle, so it is small.
type Stream struct {
	conn   sse.Conn
	shard  *shard
	done   func(Reason)
	gone   atomic.Pointer[Reason] // why the client's side closed it
	parked atomic.Bool            // the shard owns it
	pace   atomic.Uint32          // of a stream with a codec; beside parked, so that it takes no memory
	ending atomic.Pointer[Reason] // why the server ends it

	mark         atomic.Uint64             // a recent position
	epoch        atomic.Uint32             // the number of its epoch
	changes      atomic.Pointer[[]change]  // pending changes of its filters
	wants        atomic.Pointer[group.Set] // its filters after these changes: those of a message published now
	sentMessages atomic.Uint64
	sentBytes    atomic.Uint64

	// Used by its owner alone: the goroutine that follows, or the shard where it is parked.
	filters      group.Set // as the client named them
	uid          string
	view         View
	live         bool      // it has reached the end of the log
	skip         bool      // it was slow: skip to the newest message
	far          bool      // its next messages have to be read from another machine
	full         bool      // its codec takes no more for now
	pos          store.Seq // all messages up to here were sent
	lossReported uint64    // Batch.Reported at the last gap: earlier losses were reported
	opening      *opening  // state of the beginning; nil afterwards
	heartbeat    time.Duration
	coalesce     time.Duration
	sent         instant // when it was last written to

	// Used by the shard alone.
	due      instant // when the shard has to look at it next
	dueIndex int32   // its index in the heap of dues; -1: not there
	waiting  bool    // it follows again when it is due: it coalesces messages, or the log cannot be reached
	allIndex int32   // its index in the list of all streams; -1: not there
	places   []place // where the index has it
	next     *Stream // the next one of its session in the index
}

// opening is state that a stream needs only while it begins.
type opening struct {
	held     bool   // Start.Held
	unknown  string // Start.Unknown
	retained span   // is sent first, of the retained messages
	earlier  span   // is sent next, of the log
	asked    bool   // earlier was read from
	reported uint64 // Batch.Reported of that

	joined group.Set // filters whose losses after the position were not reported; all others' were, up to lossReported
	lost   []loss    // of earlier, to be reported with later ones of the same filters, after the position
	over   bool      // only joined and lost are left
}

// loss is a loss of messages of a filter after a position.
type loss struct {
	filter string
	after  store.Seq
}

// lostAfter returns the position after which messages of earlier were lost that a filter matches, or pos if none were.
func (o *opening) lostAfter(filter string, pos store.Seq) store.Seq {
	for _, l := range o.lost {
		if l.filter == filter {
			pos = min(pos, l.after)
		}
	}
	return pos
}

// begins reports whether a filter is one of those that joined.
func (o *opening) begins(filter string) bool {
	return slices.ContainsFunc(o.joined, func(f group.Filter) bool { return f.String() == filter })
}

// begun reports whether nothing has to be sent of filters that begin, before the messages after the position.
func (s *Stream) begun() bool { return s.opening == nil || s.opening.over }

// span is a part of the messages that some filters match.
type span struct {
	set group.Set
	at  store.Seq // those up to here have been sent
	to  store.Seq // the last one to send
}

// left reports whether messages of the span may have to be sent.
func (p *span) left() bool { return p.set != nil && p.at < p.to }

// instant is the time since the process began. It takes a third of the memory of a time.Time, and is not
// affected when the clock is set.
type instant time.Duration

var began = time.Now()

func now() instant { return instant(time.Since(began)) }

func (t instant) add(d time.Duration) instant { return t + instant(d) }

// finish ends the stream. Its owner calls it and gives it up.
func (s *Stream) finish(why Reason) {
	if gone := s.gone.Load(); gone != nil {
		why = *gone
	}
	if ending := s.ending.Load(); ending != nil {
		why = *ending
	}
	_ = s.conn.Close()
	s.done(why)
	s.shard.post(func() { s.shard.forget(s) })
}

// bye returns the last event of a stream that the server ends, or nil.
func (s *Stream) bye() []byte {
	why := s.ending.Load()
	if why == nil {
		return nil
	}
	if s.view.codec != nil {
		return s.view.codec.AppendBye(nil, *why)
	}
	return Bye(*why)
}

// Bye returns the event that ends an event stream.
func Bye(why Reason) []byte {
	data := append(store.AppendQuote([]byte(`{"reason":`), string(why)), '}')
	return sse.AppendEvent(nil, "bye", "", data)
}

// End ends the stream with a last event that gives the reason. It may be called at any time, even before
// Run.
func (s *Stream) End(why Reason) {
	if s.ending.CompareAndSwap(nil, &why) {
		s.shard.post(func() { s.shard.end(s) })
	}
}

// Gone records that the client has closed the connection, with the connection's error.
func (s *Stream) Gone(err error) {
	why := reason(err)
	if !s.gone.CompareAndSwap(nil, &why) {
		return
	}
	_ = s.conn.Close() // makes the next write of a goroutine that follows fail
	s.shard.post(func() { s.shard.gone(s) })
}

// reason returns the reason for which a stream ends after an error of its connection.
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

// Run delivers to a connection. The caller has already written everything that precedes the first
// message. Run returns when the stream has parked at the end of the log, or has ended. It returns false if
// the set is closed: then the stream never started.
func (s *Stream) Run(conn sse.Conn) bool {
	s.conn, s.sent = conn, now()
	if !s.shard.join(s) {
		s.ending.CompareAndSwap(nil, &s.shard.why)
		s.part()
		return false
	}
	conn.Watch(s.Gone) // before follow: a client may leave while the stream catches up
	s.follow()
	return true
}

// part sends bye on a connection that was opened while the set was closed.
func (s *Stream) part() {
	if s.conn.Blocking() {
		_, _ = s.conn.Write(s.bye()) // an error: the client has left
		return
	}
	_, _ = s.conn.TryWrite(s.bye())
}

// Position returns a recent position of the stream. It may be slightly behind.
func (s *Stream) Position() store.Seq {
	if s.parked.Load() {
		// Once it is no longer parked, it does not move on with its shard.
		if pos := s.shard.pos.Load(); s.parked.Load() {
			return store.Seq(pos)
		}
	}
	return store.Seq(s.mark.Load())
}

// Behind reports whether the stream waits for its client or catches up, rather than for new messages.
func (s *Stream) Behind() bool {
	_, newest := s.shard.set.log.Bounds()
	return !s.parked.Load() && store.Seq(s.mark.Load()) < newest.Seq
}

// Sent returns how many messages and bytes were written to the stream.
func (s *Stream) Sent() (messages, bytes uint64) { return s.sentMessages.Load(), s.sentBytes.Load() }

// selects returns the stream's filters and the group of its session. It uses the buffer buf.
func (s *Stream) selects(buf *group.Set) group.Set {
	*buf = append(append((*buf)[:0], s.filters...), group.Exact(SessionPrefix+s.uid))
	return *buf
}

// mustCoalesce reports whether a message has to wait so that later ones are sent with it.
func (s *Stream) mustCoalesce(now instant) bool {
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
	if s.view.codec != nil {
		s.shard.set.stats.coded.Add(uint64(messages))
	}
}
