package mqtt

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// subscription is one of the topic filters of a session.
type subscription struct {
	topic   string // as the client wrote it, which UNSUBSCRIBE names
	filter  group.Filter
	options byte      // as in SUBSCRIBE (MQTT 5.0, 3.8.3.1)
	id      uint32    // subscription identifier; 0: none
	from    store.Seq // messages after this position are for the client, or up to it, if the subscription ends
	opening opening
	share   string // the name of a shared subscription's share; "": it is not shared
}

func (x *subscription) qos() byte         { return x.options & 3 }
func (x *subscription) noLocal() bool     { return x.options&(1<<2) != 0 }
func (x *subscription) asPublished() bool { return x.options&(1<<3) != 0 }

func (x *subscription) shared() bool { return x.share != "" }

// system reports whether the subscription is one of $SYS, whose messages are not in the log.
func (x *subscription) system() bool { return strings.HasPrefix(x.topic, systemPrefix) }

// direct reports whether the subscription is one for the messages to the session itself, such as $session/+. The
// session's stream reads these anyway, and no others in $session.
func (x *subscription) direct() bool {
	return !x.shared() && strings.HasPrefix(x.topic, delivery.SessionPrefix)
}

// logged reports whether the session's stream needs the filter to read the messages of the subscription.
func (x *subscription) logged() bool { return !x.shared() && !x.system() && !x.direct() }

// retainHandling says when retained messages are sent.
func (x *subscription) retainHandling() byte { return x.options >> 4 & 3 }

// The values of retainHandling.
const (
	retainedAlways byte = iota
	retainedIfNew
	retainedNever
)

// selects reports whether the session gets a message because of the subscription.
func (x *subscription) selects(f *store.Frame, pass delivery.Pass) bool {
	if x.ending() {
		return false
	}
	switch pass {
	case delivery.Retained:
		return x.opening.retained.wants(f.Seq, x.opening.to) && x.filter.Match(f.Group)
	case delivery.Earlier:
		return x.opening.earlier.wants(f.Seq, x.opening.to) && x.filter.Match(f.Group)
	}
	return f.Seq > x.from && (x.logged() || x.direct()) && x.filter.Match(f.Group)
}

// opening is what a subscription is sent when it begins. It is kept, so that it goes on after a lost connection.
type opening struct {
	to       store.Seq // the position where the subscription began
	retained part      // of the retained messages
	earlier  part      // of the messages before to
}

// part is a part of the messages up to a position: 1 more than the position up to which they were sent, or 0 if they are not wanted.
type part store.Seq

// after returns the part behind a position.
func after(reached store.Seq) part { return part(reached) + 1 }

func (p part) wanted() bool { return p > 0 }

// reached returns the position up to which the messages of a wanted part were sent.
func (p part) reached() store.Seq { return store.Seq(p) - 1 }

func (p part) wants(seq, to store.Seq) bool { return p.wanted() && seq > p.reached() && seq <= to }

// sent records that the messages up to a position were sent. The last one to send is at to.
func (p *part) sent(reached, to store.Seq) {
	switch {
	case reached >= to:
		*p = 0
	case p.wanted():
		*p = max(*p, after(reached))
	}
}

// pending reports whether messages of a pass have to be sent.
func (o *opening) pending(pass delivery.Pass) bool {
	return pass == delivery.Retained && o.retained.wanted() || pass == delivery.Earlier && o.earlier.wanted()
}

// sent records how far the stream is.
func (o *opening) sent(reached store.Seq, pass delivery.Pass) {
	switch {
	case pass == delivery.Retained:
		o.retained.sent(reached, o.to)
	case pass == delivery.Earlier:
		o.earlier.sent(reached, o.to)
	case reached > o.to: // the stream has sent everything before
		*o = opening{}
	}
}

// stored returns the subscription as a part of a position. Its options are
//
//	options (1 byte) | id | from | to | retained | earlier | topic, if it is not the filter
//
// Numbers are uvarints.
func (x *subscription) stored() cursor.Filter {
	b := binary.AppendUvarint([]byte{x.options}, uint64(x.id))
	b = binary.AppendUvarint(b, uint64(x.from))
	b = binary.AppendUvarint(b, uint64(x.opening.to))
	b = binary.AppendUvarint(b, uint64(x.opening.retained))
	b = binary.AppendUvarint(b, uint64(x.opening.earlier))
	if x.topic != x.filter.String() {
		b = append(b, x.topic...)
	}
	return cursor.Filter{Filter: x.filter.String(), Options: b}
}

var errStored = errors.New("mqtt: a stored subscription is corrupt")

// restoreSubscription parses what stored returned.
func restoreSubscription(f *cursor.Filter) (x subscription, err error) {
	if len(f.Options) == 0 {
		return x, errStored
	}
	x.options = f.Options[0]
	b := f.Options[1:]
	var n [5]uint64
	for i := range n {
		size := 0
		if n[i], size = binary.Uvarint(b); size <= 0 {
			return x, errStored
		}
		b = b[size:]
	}
	x.id, x.from, x.opening.to = uint32(n[0]), store.Seq(n[1]), store.Seq(n[2])
	x.opening.retained, x.opening.earlier = part(n[3]), part(n[4])
	if x.topic = string(b); x.topic == "" {
		x.topic = f.Filter
	}
	x.share, x.filter, err = filterOf(x.topic)
	if len(b) == 0 {
		x.topic = x.filter.String() // the same text, which need not be in memory twice
	}
	return x, err
}
