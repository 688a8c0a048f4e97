package mqtt

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/duration"
	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// subscribe answers a SUBSCRIBE. Nothing of a new subscription is sent before the SUBACK.
func (s *session) subscribe(pk *packets.Packet) error {
	for i := range pk.Filters {
		if f := &pk.Filters[i]; f.NoLocal && strings.HasPrefix(f.Filter, sharePrefix) {
			return packets.ErrProtocolViolationInvalidSharedNoLocal
		}
	}
	if !s.acceptsCodes(len(pk.Filters)) {
		return packets.ErrPacketTooLarge
	}
	s.hold(true)
	defer s.hold(false)
	from, err := replayFrom(pk.Properties.User)
	errs := make([]error, len(pk.Filters))
	last := lastOfEach(pk.Filters)
	var added []string
	s.mu.Lock()
	before := slices.Clone(s.subs)
	s.mu.Unlock()
	for i := range pk.Filters {
		if errs[i] = err; err != nil || last[pk.Filters[i].Filter] != i {
			continue
		}
		var isNew bool
		if isNew, errs[i] = s.add(&pk.Filters[i], from); isNew {
			added = append(added, pk.Filters[i].Filter)
		}
	}
	for i := range errs {
		errs[i] = errs[last[pk.Filters[i].Filter]]
	}
	if err := s.store(); err != nil {
		for i := range errs {
			errs[i] = err
		}
		for _, topic := range added {
			s.remove(topic)
		}
		s.restoreOptions(before)
		s.changed() // otherwise what was refused is stored as soon as that works again
	}
	s.suback(pk, errs)
	if slices.ContainsFunc(pk.Filters, func(f packets.Subscription) bool { return strings.HasPrefix(f.Filter, systemPrefix) }) {
		s.server.watchSystem(s)
	}
	return nil
}

// restoreOptions gives subscriptions the options that they had before a SUBSCRIBE that has failed for them.
func (s *session) restoreOptions(before []subscription) {
	for _, x := range before {
		if x.ending() {
			continue
		}
		s.mu.Lock()
		i := s.find(x.topic)
		changed := i >= 0 && (s.subs[i].options != x.options || s.subs[i].id != x.id)
		if changed {
			s.subs[i].options, s.subs[i].id = x.options, x.id
		}
		s.mu.Unlock()
		if changed && x.shared() {
			s.reenter(&x)
		}
	}
}

// lastOfEach returns the index of the last subscription with each topic filter. It replaces the options of the earlier ones, but
// sends retained messages if one of them does. So a packet that has a filter 100,000 times has no more effect than one that
// has it once.
func lastOfEach(list packets.Subscriptions) map[string]int {
	last := map[string]int{}
	for i := range list {
		x := &list[i]
		if before, again := last[x.Filter]; again {
			x.RetainHandling = min(x.RetainHandling, list[before].RetainHandling)
		}
		last[x.Filter] = i
	}
	return last
}

// hold stops the stream, or lets it go on.
func (s *session) hold(on bool) {
	s.mu.Lock()
	s.held = on
	s.mu.Unlock()
	if !on {
		s.listener.Resume()
		s.resumeShares()
	}
}

// store stores a session that is kept, and waits for it: a subscription that is acknowledged survives a crash.
func (s *session) store() error {
	if s.expiry == 0 {
		return nil
	}
	if err := s.save(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	return s.server.hub.Cursors().Flush(ctx, s.conn.key)
}

// suback sends the SUBACK.
func (s *session) suback(pk *packets.Packet, errs []error) {
	out := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Suback}, PacketID: pk.PacketID}
	for i, err := range errs {
		if err == nil {
			out.ReasonCodes = append(out.ReasonCodes, s.granted(pk.Filters[i].Filter))
			continue
		}
		code := codeIn(packets.Suback, err)
		switch {
		case s.conn.version < 5:
			code.Code = packets.ErrUnspecifiedError.Code
		case s.conn.limits.problemInfo && out.Properties.ReasonString == "":
			out.Properties.ReasonString = code.Reason
		}
		out.ReasonCodes = append(out.ReasonCodes, code.Code)
	}
	s.conn.send(s.conn.encode(&out, (*packets.Packet).SubackEncode))
}

// acceptsCodes reports whether the client accepts a SUBACK or UNSUBACK with n reason codes.
func (s *session) acceptsCodes(n int) bool {
	n += 3 // a packet id, and no properties
	return s.conn.limits.fits(1 + lengthOf(n) + n)
}

// granted returns the QoS of a subscription.
func (s *session) granted(topic string) byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.find(topic); i >= 0 {
		return s.subs[i].qos()
	}
	return packets.ErrUnspecifiedError.Code
}

// find returns the index of the subscription with a topic filter, or -1.
func (s *session) find(topic string) int {
	return slices.IndexFunc(s.subs, func(x subscription) bool { return x.topic == topic && !x.ending() })
}

// add adds a subscription, or replaces the options of the one with the same topic filter. It reports whether it has added one.
func (s *session) add(in *packets.Subscription, from hub.From) (added bool, err error) {
	x, err := s.parse(in)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	i := s.find(x.topic)
	isNew := i < 0
	if isNew && len(s.subs)-s.countEnding() >= s.server.hub.Options().MaxFilters {
		s.mu.Unlock()
		return false, sessions.ErrTooManyFilters
	}
	var before subscription // that x replaces
	retained := x.retainHandling() == retainedAlways || x.retainHandling() == retainedIfNew && isNew
	if isNew {
		s.subs = slices.DeleteFunc(s.subs, func(y subscription) bool { return y.ending() && y.topic == x.topic }) // x finds what it had sent
		if x.logged() {
			x.from = s.server.hub.End().Seq // another one goes on with what was not sent (MQTT 5.0, 3.8.4-4)
		}
		s.subs = append(s.subs, x)
	} else {
		old := &s.subs[i]
		before = *old
		old.options, old.id = x.options, x.id
	}
	s.mu.Unlock()
	switch {
	case x.system(), x.direct():
	case x.shared() && isNew:
		err = s.enter(&x)
	case x.shared():
		s.reenter(&x)
	case isNew || retained || from != hub.From{}:
		err = s.begin(&x, retained, from)
	}
	switch {
	case err == nil:
	case isNew:
		s.mu.Lock()
		s.subs = s.subs[:len(s.subs)-1]
		s.mu.Unlock()
	default:
		s.restoreOptions([]subscription{before})
	}
	return isNew && err == nil, err
}

// parse returns a new subscription, if the client may have it.
func (s *session) parse(in *packets.Subscription) (x subscription, err error) {
	x.id = uint32(in.Identifier)
	x.options = in.Qos | in.RetainHandling<<4
	if in.NoLocal {
		x.options |= 1 << 2
	}
	if in.RetainAsPublished {
		x.options |= 1 << 3
	}
	x.share, x.filter, err = filterOf(in.Filter)
	if err != nil {
		return x, err
	}
	x.share = strings.Clone(x.share)
	if x.topic = x.filter.String(); x.topic != in.Filter { // otherwise the text need not be in memory twice
		x.topic = strings.Clone(in.Filter)
	}
	if x.system() {
		x.options &^= 3
	}
	return x, s.mayRead(&x)
}

// mayRead returns an error unless the client may have a subscription.
func (s *session) mayRead(x *subscription) error {
	f := x.filter
	switch {
	case x.system():
		f = statsFilter
	case x.direct() && f.Match(delivery.SessionPrefix+s.conn.uid()):
		return nil
	}
	return s.server.hub.CheckRead(s.grant, f)
}

// begin lets the stream join the filter of a subscription. It is sent what it gets at its beginning: the retained messages
// if they are wanted, and the earlier ones that from asks for.
func (s *session) begin(x *subscription, retained bool, from hub.From) error {
	var earlier store.Seq
	if from != (hub.From{}) {
		start, err := s.server.hub.Start(x.filter, from)
		if err != nil {
			return err
		}
		earlier = start.Seq
		from = hub.From{After: &store.ID{Epoch: s.server.hub.Epoch(), Seq: earlier}}
	}
	if err := s.listener.Join(x.filter, retained, from); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	y := &s.subs[s.find(x.topic)]
	y.opening.to = s.server.hub.End().Seq
	if retained {
		y.opening.retained = after(0)
	}
	if from.After != nil {
		y.opening.earlier = after(earlier)
	}
	return nil
}

// replayFrom returns where subscriptions begin, by the user properties of a SUBSCRIBE: since and last as in HTTP, and
// stream-offset as EMQX has it.
func replayFrom(user []packets.UserProperty) (from hub.From, err error) {
	for _, p := range user {
		if from != (hub.From{}) {
			break
		}
		switch p.Key {
		case "since":
			from, err = sinceText(p.Val)
		case "last":
			from, err = newest(p.Val)
		case "stream-offset":
			from, err = offset(p.Val)
		}
	}
	return from, err
}

func badProperty(name, format string, args ...any) error {
	code := packets.ErrImplementationSpecificError
	code.Reason = "the user property " + name + " " + fmt.Sprintf(format, args...)
	return code
}

func sinceText(text string) (hub.From, error) {
	if text == "all" {
		return hub.From{All: true}, nil
	}
	if d, err := duration.Parse(text); err == nil && d >= 0 {
		return hub.From{Since: time.Now().Add(-d)}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return hub.From{Since: t, All: t.IsZero()}, nil // hub.From treats the zero time as unset
	}
	if _, err := store.ParseID(text); err == nil {
		return hub.From{Resume: text}, nil
	}
	return hub.From{}, badProperty("since", "is %.64q: send all, a duration such as 10m or 7d, an RFC 3339 time, or the id of a message", text)
}

func newest(text string) (hub.From, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return hub.From{}, badProperty("last", "is %.64q: send a number of messages", text)
	}
	return hub.From{Last: &n}, nil
}

// offset reads a stream offset: a time in ms or μs, earliest or latest.
func offset(text string) (hub.From, error) {
	switch text {
	case "earliest":
		return hub.From{All: true}, nil
	case "latest":
		return hub.From{}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil || n < 0:
		return hub.From{}, badProperty("stream-offset", "is %.64q: send earliest, latest, or a Unix time in milliseconds", text)
	case n == 0:
		return hub.From{All: true}, nil
	case n > 1e14:
		return hub.From{Since: time.UnixMicro(n)}, nil
	}
	return hub.From{Since: time.UnixMilli(n)}, nil
}

// unsubscribe answers an UNSUBSCRIBE. Messages that were sent remain in the window (MQTT 5.0, 3.10.4-3).
func (s *session) unsubscribe(pk *packets.Packet) error {
	if !s.acceptsCodes(len(pk.Filters)) {
		return packets.ErrPacketTooLarge
	}
	out := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsuback}, PacketID: pk.PacketID}
	for i := range pk.Filters {
		out.ReasonCodes = append(out.ReasonCodes, s.remove(pk.Filters[i].Filter))
	}
	s.changed()
	s.conn.send(s.conn.encode(&out, (*packets.Packet).UnsubackEncode))
	return nil
}

// remove removes a subscription. It returns the reason code.
func (s *session) remove(topic string) byte {
	s.mu.Lock()
	i := s.find(topic)
	if i < 0 {
		s.mu.Unlock()
		return packets.CodeNoSubscriptionExisted.Code
	}
	x := s.subs[i]
	s.subs = slices.Delete(s.subs, i, i+1)
	s.keepEnding(x)
	s.mu.Unlock()
	switch {
	case x.shared():
		s.leave(&x)
	case x.logged():
		if err := s.listener.Leave(x.filter); err != nil {
			return codeIn(packets.Unsuback, err).Code // the stream reads messages that are for nobody
		}
	}
	return packets.CodeSuccess.Code
}

// regrant ends the subscriptions that another grant does not cover.
func (s *session) regrant(g *access.Grant) {
	s.grant = g
	s.mu.Lock()
	subs := slices.Clone(s.subs)
	s.mu.Unlock()
	for _, x := range subs {
		if !x.ending() && s.mayRead(&x) != nil {
			s.remove(x.topic)
		}
	}
	s.changed()
}
