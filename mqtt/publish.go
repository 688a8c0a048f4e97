package mqtt

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
)

// batch is the PUBLISH and PUBREL packets that have arrived together. Their messages are appended with one append, and
// then all of them are answered, in their order.
type batch struct {
	drafts  []hub.Draft
	answers []answer
	waiting int // messages whose answers the client waits for
}

// maxBatch is how many packets a batch has at most. Some packets are looked up in it.
const maxBatch = 1024

// answer is the answer to a PUBLISH or PUBREL.
type answer struct {
	kind  byte // PUBACK, PUBREC or PUBCOMP; 0: none, because the QoS is 0
	id    uint16
	draft int   // index of the message; -1: there is none
	err   error // why there is none; nil: it was received before, or this answers a PUBREL
}

// publisher is what a connection keeps of the messages that its client publishes.
type publisher struct {
	received             []uint16 // ids of messages of QoS 2 that were received and not released
	before               []uint16 // those of them that an earlier connection received
	aliases              []string // topics of the client, by alias-1
	lastTopic, lastGroup string   // of the newest message
}

// publish adds the message of a PUBLISH to the batch. It is for nobody if it is expired. An error ends the connection.
func (c *conn) publish(t *batch, pk *packets.Packet, expired bool) error {
	a := answer{id: pk.PacketID, draft: -1}
	switch pk.FixedHeader.Qos {
	case 1:
		a.kind = packets.Puback
	case 2:
		a.kind = packets.Pubrec
		if t.releases(a.id) || t.has(a.id) { // the id is used again
			if err := c.publishBatch(t); err != nil {
				return err
			}
		}
	}
	switch p := &pk.Properties; {
	case len(p.SubscriptionIdentifier) > 0:
		return packets.ErrProtocolViolationSurplusSubID
	case strings.ContainsAny(p.ResponseTopic, "+#"):
		return packets.ErrProtocolViolation
	}
	if c.publisher == nil {
		c.publisher = new(publisher)
	}
	topic, err := c.topicOf(pk)
	if err != nil {
		return err
	}
	if a.kind != 0 {
		known := slices.Contains(c.publisher.received, a.id)
		if before := c.publisher.before; isNew(pk, before) {
			known, c.publisher.before = false, slices.DeleteFunc(before, func(id uint16) bool { return id == a.id })
		}
		switch {
		case known && a.kind == packets.Pubrec:
			t.answers = append(t.answers, a) // sent again
			return nil
		case known:
			a.err = packets.ErrPacketIdentifierInUse
			t.answers = append(t.answers, a)
			return nil
		}
		if err := c.checkReceiveMaximum(t); err != nil {
			return err
		}
	}
	var d hub.Draft
	name, err := c.publisher.groupOf(topic)
	if err == nil {
		d, err = draft(name, pk.Payload, pk.FixedHeader.Qos, &pk.Properties, expired)
	}
	d.Retain = pk.FixedHeader.Retain
	if err != nil {
		a.err = err
	} else {
		a.draft = len(t.drafts)
		t.drafts = append(t.drafts, d)
		if a.kind != 0 {
			t.waiting++
		}
	}
	t.answers = append(t.answers, a)
	return nil
}

// isNew reports whether a message is another one than that which an earlier connection has sent with its id: a client that has
// lost its own state begins with the ids anew. One that sends a message again says so by DUP [MQTT-3.3.1-1].
func isNew(pk *packets.Packet, before []uint16) bool {
	return !pk.FixedHeader.Dup && slices.Contains(before, pk.PacketID)
}

// checkReceiveMaximum returns an error if the client waits for the answers to too many messages. A client of MQTT 3.1.1
// knows no limit, so what has arrived is answered first.
func (c *conn) checkReceiveMaximum(t *batch) error {
	most := receiveMaximum
	if c.version < 5 {
		most = receiveMaximum3
		if len(c.publisher.received)+t.waiting >= most {
			if err := c.publishBatch(t); err != nil {
				return err
			}
		}
	}
	if len(c.publisher.received)+t.waiting >= most {
		return packets.ErrReceiveMaximum
	}
	return nil
}

// draft returns the message of a PUBLISH or a will to a group. Its data uses the packet's memory.
func draft(name string, payload []byte, qos byte, p *packets.Properties, expired bool) (d hub.Draft, err error) {
	if p.PayloadFormatFlag && p.PayloadFormat == 1 && !utf8.Valid(payload) {
		return d, packets.ErrPayloadFormatInvalid
	}
	ttl := min(time.Duration(p.MessageExpiryInterval)*time.Second, hub.TTLs.Most)
	if expired {
		ttl = hub.AtOnce
	}
	return hub.Draft{Group: name, Kind: kindOf(payload), Data: payload, TTL: ttl, Meta: metaOf(qos, p)}, nil
}

// topicOf returns the topic of a PUBLISH, also if the packet has only an alias for it.
func (c *conn) topicOf(pk *packets.Packet) (string, error) {
	p := &pk.Properties
	switch {
	case strings.ContainsAny(pk.TopicName, "+#"):
		return "", packets.ErrTopicNameInvalid
	case !p.TopicAliasFlag && pk.TopicName == "":
		if c.version == 5 {
			return "", packets.ErrProtocolViolationNoTopic
		}
		return "", packets.ErrTopicNameInvalid
	case !p.TopicAliasFlag:
		return pk.TopicName, nil
	case p.TopicAlias > aliasMaximum:
		return "", packets.ErrTopicAliasInvalid
	}
	if c.publisher.aliases == nil {
		c.publisher.aliases = make([]string, aliasMaximum)
	}
	known := &c.publisher.aliases[p.TopicAlias-1]
	if topic := pk.TopicName[:min(len(pk.TopicName), group.MaxBytes+1)]; topic != "" && *known != topic { // a longer one is refused, however long it is
		*known = strings.Clone(topic)
	}
	if *known == "" {
		return "", packets.ErrProtocolViolationNoTopic
	}
	return *known, nil
}

// groupOf returns the group of a topic. Most clients publish to one topic many times, so the last one is kept.
func (x *publisher) groupOf(topic string) (string, error) {
	if topic != x.lastTopic || topic == "" {
		name, err := groupOf(topic)
		if err != nil {
			return "", err
		}
		x.lastTopic = strings.Clone(topic)
		if x.lastGroup = x.lastTopic; name != topic {
			x.lastGroup = name
		}
	}
	return x.lastGroup, nil
}

// release adds the answer to a PUBREL to the batch.
func (c *conn) release(t *batch, pk *packets.Packet) error {
	a := answer{kind: packets.Pubcomp, id: pk.PacketID, draft: -1}
	if t.has(a.id) {
		if err := c.publishBatch(t); err != nil {
			return err
		}
	}
	if c.publisher == nil || !slices.Contains(c.publisher.received, a.id) || t.releases(a.id) {
		a.err = packets.ErrPacketIdentifierNotFound
	}
	t.answers = append(t.answers, a)
	return nil
}

// has reports whether the batch has a message of QoS 2 with an id.
func (t *batch) has(id uint16) bool {
	return slices.ContainsFunc(t.answers, func(a answer) bool { return a.kind == packets.Pubrec && a.id == id && a.draft >= 0 })
}

// releases reports whether the batch releases an id.
func (t *batch) releases(id uint16) bool {
	return slices.ContainsFunc(t.answers, func(a answer) bool { return a.kind == packets.Pubcomp && a.id == id && a.err == nil })
}

// publishBatch appends the messages of the batch and answers its packets. An error ends the connection.
func (c *conn) publishBatch(t *batch) error {
	if len(t.answers) == 0 {
		return nil
	}
	defer t.reset()
	var note func([]error) []byte
	changes := t.changesReceived()
	if changes && c.expiry != 0 {
		note = func(errs []error) []byte { return appendIDs(nil, t.receivedAfter(c.publisher.received, errs)) }
	}
	sender := hub.Sender{Grant: c.session.grant, UID: c.uid(), Address: c.address()}
	errs, err := c.server.hub.PublishEach(c.server.ctx, &sender, t.drafts, note)
	for i := range t.answers {
		a := &t.answers[i]
		if a.draft >= 0 {
			a.err = errs[a.draft]
		} else if a.kind == packets.Pubcomp && a.err == nil {
			a.err = err // that the message was released is not stored
		}
	}
	if changes {
		c.publisher.received = t.receivedAfter(c.publisher.received, errs)
	}
	return c.answer(t.answers)
}

// answer queues answers. A client whose message may be accepted when it is sent again, and which cannot be told so, gets
// no answer: its connection ends.
func (c *conn) answer(answers []answer) error {
	out := make([]byte, 0, 4*len(answers))
	var published, refused, dropped uint64
	defer func() {
		c.send(out)
		counts := c.server.hub.MQTT()
		counts.Published.Add(published)
		counts.Refused.Add(refused)
		counts.Dropped.Add(dropped)
	}()
	for i := range answers {
		a := &answers[i]
		code := packets.CodeSuccess
		if a.err != nil {
			var again bool
			if code, again = c.refusalOf(a); again {
				return code
			}
		}
		switch {
		case a.kind == packets.Pubcomp:
		case a.err != nil:
			refused++
			if a.kind == 0 || c.version < 5 {
				dropped++
			}
		case a.draft >= 0:
			published++
		}
		if a.kind != 0 {
			out = appendAck(out, c.version, a.kind, a.id, code.Code, c.reason(code, a.err))
		}
	}
	return nil
}

// refusalOf returns the code for a packet that failed. again says that the client has to send it again on another
// connection, because the answer cannot tell it.
func (c *conn) refusalOf(a *answer) (code packets.Code, again bool) {
	m := meaningOf(a.err)
	if m.code == packets.ErrUnspecifiedError {
		c.server.opts.Logger.Error("a message of an MQTT client was not stored", "uid", c.uid(), "error", a.err)
	}
	again = a.kind != 0 && (c.version < 5 && m.again || !hasReason(a.kind, m.code.Code))
	if code = m.tell(a.err); m.is == nil {
		code.Reason = "" // it would say no more than the code, and Paho's test client takes no properties here
	}
	return code, again
}

// reason returns the text that explains a code, if the client wants one and takes it, and it says more than the code.
func (c *conn) reason(code packets.Code, err error) string {
	if _, plain := errors.AsType[packets.Code](err); plain || code.Code < 0x80 || !c.limits.problemInfo {
		return ""
	}
	if !c.limits.fits(ackWithReason + min(len(code.Reason), maxReason)) {
		return ""
	}
	return code.Reason
}

func (t *batch) reset() {
	clear(t.drafts)
	clear(t.answers)
	t.drafts, t.answers, t.waiting = t.drafts[:0], t.answers[:0], 0
}

// changesReceived reports whether the batch has messages of QoS 2, or releases some.
func (t *batch) changesReceived() bool {
	return slices.ContainsFunc(t.answers, func(a answer) bool {
		return a.kind == packets.Pubrec && a.draft >= 0 || a.kind == packets.Pubcomp && a.err == nil
	})
}

// receivedAfter returns the ids of messages of QoS 2 that were received and not released, after the batch. errs are the errors of
// its messages.
func (t *batch) receivedAfter(ids []uint16, errs []error) []uint16 {
	if !t.changesReceived() {
		return ids
	}
	ids = slices.DeleteFunc(slices.Clone(ids), t.releases)
	for i := range t.answers {
		if a := &t.answers[i]; a.kind == packets.Pubrec && a.draft >= 0 && errs[a.draft] == nil && !slices.Contains(ids, a.id) {
			ids = append(ids, a.id)
		}
	}
	return ids
}

func appendIDs(b []byte, ids []uint16) []byte {
	for _, id := range ids {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return b
}

func readIDs(b []byte) (ids []uint16) {
	for ; len(b) >= 2; b = b[2:] {
		ids = append(ids, binary.BigEndian.Uint16(b))
	}
	return ids
}
