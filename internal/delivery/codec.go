package delivery

import "github.com/watchbox-go/watchbox/store"

// Codec renders messages for one stream in a form of its own, such as the packets of another protocol. A stream with
// a codec gets no heartbeats.
//
// The stream's owner calls the methods, one at a time. The owner may be any goroutine, also a publisher's, so the
// methods must be quick and must not wait for the stream or for a publisher. Their state may be used by others
// meanwhile: the client may acknowledge a message before Sent is called.
type Codec interface {
	// Append appends what the client gets of a message, or nothing to leave the message out. full says that the client
	// takes no more for now: then nothing was appended, and the stream stops before this message until Resume is called.
	Append(b []byte, f *store.Frame, pass Pass) (out []byte, full bool)

	// Sent tells that of what Append has appended in a pass, everything up to a position was sent, or may have been
	// sent in part. What lies behind it was not sent, and will be appended again.
	Sent(reached store.Seq, pass Pass)

	// AppendGap appends that messages were lost. It may append nothing, to tell it with the next message.
	AppendGap(b []byte, g *Gap) []byte

	// AppendBye appends the last thing that the client gets when the server ends the stream.
	AppendBye(b []byte, why Reason) []byte

	// Common returns how the messages of the log are rendered for now, if many streams get the same bytes, and
	// otherwise nil. Append and Sent are not called for these messages.
	Common() Common
}

// Common is a form without state. Streams whose codecs return equal values share the bytes of a message, which are
// rendered once. Values must be comparable.
type Common interface {
	// Append appends what all clients get of a message, or nothing.
	Append(b []byte, f *store.Frame) []byte
}

// Pass is what a stream reads: first, for filters that begin, the retained and the earlier messages; then the log. Positions of
// different passes must not be compared. The first two passes begin again for each filter that joins.
type Pass uint8

// The passes.
const (
	Logged   Pass = iota // the log, from the stream's position on
	Retained             // the retained messages of filters that begin
	Earlier              // messages before the stream's position; see JoinOptions.After
)

// The pace of a stream with a codec. No Resume is lost: the owner sets flowing before it asks the codec, and the
// shard lets the stream wait only if it still is.
const (
	flowing uint32 = iota
	resumed        // Resume was called
	full           // it waits in its shard for Resume
)

// Resume tells that the client takes messages again. It may be called at any time, also if the stream does not wait.
func (s *Stream) Resume() {
	if s.pace.Swap(resumed) == full {
		s.shard.post(func() { s.shard.resume(s) })
	}
}

// await makes a stream that is not parked wait for Resume.
func (sh *shard) await(s *Stream) {
	if s.gone.Load() != nil || s.ending.Load() != nil || !s.pace.CompareAndSwap(flowing, full) {
		go s.follow()
		return
	}
	s.waiting = true
}

// resume makes a stream follow that waits for Resume.
func (sh *shard) resume(s *Stream) {
	if s.waiting && s.dueIndex < 0 {
		s.waiting = false
		go s.follow()
	}
}

// suspend makes a parked stream wait for Resume, at a position.
func (sh *shard) suspend(s *Stream, pos store.Seq) {
	s.pos = max(s.pos, pos)
	sh.unpark(s)
	sh.await(s)
}

// ask prepares a parcel for messages of the log.
func (s *Stream) ask(p *parcel) {
	if s.view.codec == nil {
		return
	}
	if p.common = s.view.codec.Common(); p.common == nil {
		s.askOwn(p, Logged)
	}
}

// askOwn prepares a parcel for messages that only this stream's codec can render.
func (s *Stream) askOwn(p *parcel, pass Pass) {
	p.codec, p.pass = s.view.codec, pass
	s.pace.Store(flowing)
}

// told tells the codec that a parcel was sent up to a position.
func (s *Stream) told(p *parcel, reached store.Seq) {
	if p.codec != nil {
		p.codec.Sent(reached, p.pass)
	}
}

// toldPart tells the codec how much of a parcel was sent, if only n bytes were before the connection failed or was given up.
func (s *Stream) toldPart(p *parcel, n int) {
	switch {
	case p.codec == nil:
	case n > 0:
		s.told(p, p.marks[p.cut(n-1, 0)].seq)
	default:
		s.told(p, s.at(p.pass))
	}
}

// at returns the stream's position in a pass.
func (s *Stream) at(pass Pass) store.Seq {
	switch pass {
	case Retained:
		return s.opening.retained.at
	case Earlier:
		return s.opening.earlier.at
	}
	if s.parked.Load() {
		return max(s.pos, store.Seq(s.shard.pos.Load()))
	}
	return s.pos
}
