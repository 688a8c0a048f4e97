package delivery

import (
	"sort"

	"github.com/watchbox-go/watchbox/store"
)

// View says which messages a stream gets, and in which form.
type View struct {
	Raw     bool   // the payload itself instead of JSON
	NotFrom string // messages of this uid are left out; "": none
	codec   Codec  // Config.Codec
}

// parcel holds the bytes to write to a stream next, and the end of each message in them.
type parcel struct {
	out   []byte // what to write: buf, or a part of a batch
	buf   []byte
	marks []mark

	// For streams with a codec.
	codec  Codec     // that renders messages for its stream alone
	common Common    // that renders them for several streams
	pass   Pass      // that the messages belong to
	full   bool      // the client takes no more
	next   store.Seq // if full: the position before the message that it does not take
}

// mark is the end of a message in a parcel.
type mark struct {
	end  int
	seq  store.Seq
	form form
}

// form is an encoding of a message. A message in the same form has the same bytes on all streams.
type form uint8

const (
	unshared form = iota // an event for one stream alone, such as a gap
	asOwn                // a message of the log that a codec has rendered for one stream alone
	asJSON
	asRaw
	asCommon // by the parcel's Common
	asRetainedJSON
	asRetainedRaw
)

// logged reports whether it is the form of a message of the log.
func (f form) logged() bool { return f == asOwn || f == asJSON || f == asRaw || f == asCommon }

// form returns how the view writes a message of the log.
func (v View) form() form {
	if v.Raw {
		return asRaw
	}
	return asJSON
}

// retainedForm returns how the view writes a retained message.
func (v View) retainedForm() form {
	if v.Raw {
		return asRetainedRaw
	}
	return asRetainedJSON
}

func (p *parcel) reset() { *p = parcel{buf: p.buf[:0], marks: p.marks[:0]} }

// trim drops the buffer if it is larger than most bytes.
func (p *parcel) trim(most int) {
	if cap(p.buf) > most {
		*p = parcel{marks: p.marks[:0]}
	}
}

// end marks the end of a message or event that was appended to buf.
func (p *parcel) end(seq store.Seq, f form) {
	p.out = p.buf
	p.marks = append(p.marks, mark{len(p.buf), seq, f})
}

// add renders a message, unless the view leaves it out.
func (p *parcel) add(f *store.Frame, v View) {
	switch {
	case v.NotFrom != "" && string(f.UID()) == v.NotFrom:
		return
	case v.codec != nil:
		p.encode(f)
		return
	case v.Raw:
		p.buf = f.AppendRaw(p.buf)
	default:
		p.buf = append(p.buf, f.Bytes...)
	}
	p.end(f.Seq, v.form())
}

// addRetained renders a retained message.
func (p *parcel) addRetained(f *store.Frame, v View) {
	if v.codec != nil {
		p.encode(f)
		return
	}
	p.buf = f.AppendRetained(p.buf, v.Raw)
	p.end(f.Seq, v.retainedForm())
}

// reached returns the position after all of the parcel is sent: next, unless the client took no more.
func (p *parcel) reached(next store.Seq) store.Seq {
	if p.full {
		return p.next
	}
	return next
}

// encode has the codec, or the Common, render a message. It does nothing if the client takes no more.
func (p *parcel) encode(f *store.Frame) {
	if p.full {
		return
	}
	n, form := len(p.buf), unshared
	if p.pass == Logged {
		form = asOwn
	}
	if p.common != nil {
		p.buf, form = p.common.Append(p.buf, f), asCommon
	} else if p.buf, p.full = p.codec.Append(p.buf, f, p.pass); p.full {
		p.next = f.Seq - 1
	}
	if len(p.buf) > n {
		p.end(f.Seq, form)
	}
}

// cut returns the index of the mark at the end of the message that contains byte n. If more messages follow
// within least bytes, it returns the index of the last one's mark, because a goroutine that has to wait for
// the socket should write more than a small message at a time.
func (p *parcel) cut(n, least int) (i int) {
	i = sort.Search(len(p.marks), func(i int) bool { return p.marks[i].end > n })
	for i+1 < len(p.marks) && p.marks[i+1].end-n <= least {
		i++
	}
	return i
}

// take fills the parcel with frames of a batch, given by their indexes, for views that leave nothing out.
// If JSON frames lie next to each other, the parcel is a part of the batch, without a copy.
func (p *parcel) take(b *store.Batch, frames []int, raw bool) {
	p.reset()
	first, last := frames[0], frames[len(frames)-1]
	if raw || last-first != len(frames)-1 {
		for _, i := range frames {
			p.add(&b.Frames[i], View{Raw: raw})
		}
		return
	}
	p.piece(b, first, last)
}

// piece sets the parcel to the part of the batch from the first frame to the last.
func (p *parcel) piece(b *store.Batch, first, last int) {
	from := b.Frames[first].At
	for i := first; i <= last; i++ {
		f := &b.Frames[i]
		p.marks = append(p.marks, mark{f.At + len(f.Bytes) - from, f.Seq, asJSON})
	}
	p.out = b.Buf[from : from+p.marks[len(p.marks)-1].end]
}
