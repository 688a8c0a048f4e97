package delivery

import (
	"sort"

	"github.com/watchbox-go/watchbox/store"
)

// View is how a stream wants its messages.
type View struct {
	Raw     bool   // the payload itself instead of JSON
	NotFrom string // the uid whose messages are left out; "" for none
}

// parcel is a piece of a stream: bytes, and where in them each message ends.
type parcel struct {
	out   []byte // what is to be written: buf, or a piece of a batch
	buf   []byte
	marks []mark
}

// mark is the end of a message in a parcel.
type mark struct {
	end  int
	seq  store.Seq
	form form
}

// form is how a message is written. The same message in the same form has the same bytes on all streams.
type form uint8

const (
	unshared form = iota // an event for one stream alone, such as a gap
	asJSON
	asRaw
	asRetainedJSON
	asRetainedRaw
)

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

func (p *parcel) reset() { p.out, p.buf, p.marks = nil, p.buf[:0], p.marks[:0] }

// trim gives the buffer back if it is larger than most bytes.
func (p *parcel) trim(most int) {
	if cap(p.buf) > most {
		*p = parcel{marks: p.marks[:0]}
	}
}

// end notes that what was appended to buf ends with the message, or event, of seq.
func (p *parcel) end(seq store.Seq, f form) {
	p.out = p.buf
	p.marks = append(p.marks, mark{len(p.buf), seq, f})
}

// add renders a message. It does nothing for one that the view leaves out.
func (p *parcel) add(f *store.Frame, v View) {
	switch {
	case v.NotFrom != "" && string(f.UID()) == v.NotFrom:
		return
	case v.Raw:
		p.buf = f.AppendRaw(p.buf)
	default:
		p.buf = append(p.buf, f.Bytes...)
	}
	p.end(f.Seq, v.form())
}

// cut returns the mark at which the message ends that was begun with the first n bytes. If none was
// begun it is that of the next one, or of more of them up to least bytes: a goroutine that has to wait
// for the socket writes those at once.
func (p *parcel) cut(n, least int) (i int) {
	i = sort.Search(len(p.marks), func(i int) bool { return p.marks[i].end > n })
	for i+1 < len(p.marks) && p.marks[i+1].end-n <= least {
		i++
	}
	return i
}

// take makes the parcel of frames of a batch, given by their numbers, for streams that leave
// nothing out. Where JSON frames are back to back it is a piece of the batch itself, uncopied.
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

// piece makes the parcel a piece of the batch, from a frame to another.
func (p *parcel) piece(b *store.Batch, first, last int) {
	from := b.Frames[first].At
	for i := first; i <= last; i++ {
		f := &b.Frames[i]
		p.marks = append(p.marks, mark{f.At + len(f.Bytes) - from, f.Seq, asJSON})
	}
	p.out = b.Buf[from : from+p.marks[len(p.marks)-1].end]
}
