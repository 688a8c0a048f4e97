package mqtt

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// patience is how long a test waits for something that has to happen.
const patience = time.Minute

// rig is a server on a hub, for tests of the session's side: its clients have no sockets.
type rig struct {
	*testing.T
	hub     *hub.Hub
	server  *Server
	clients []*client
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t}
	r.begin(memory.New(memory.Options{}))
	t.Cleanup(r.end)
	return r
}

func (r *rig) begin(log store.Store) {
	r.Helper()
	o := hub.Defaults()
	o.SessionTimeout = 10 * time.Second
	var err error
	if r.hub, err = hub.New(log, o); err != nil {
		r.Fatal(err)
	}
	r.server = New(r.hub, Options{QueueQoS0: true, Logger: o.Logger, MaxKeepAlive: time.Minute})
}

// end closes the server and the hub. The connections of a test that has failed may be open still.
func (r *rig) end() {
	for _, c := range r.clients {
		c.leave()
	}
	r.clients = nil
	if err := errors.Join(r.server.Close(), r.hub.Close()); err != nil {
		r.Error(err)
	}
}

// publish publishes a text with a QoS, as an MQTT client would, and returns its seq.
func (r *rig) publish(group, text string, qos byte, retain bool) store.Seq {
	r.Helper()
	p := &hub.Publication{Grant: access.Everything, Group: group, Kind: hub.Bytes, Body: []byte(text), Retain: retain, Meta: metaQoS[qos]}
	receipt, err := r.hub.Publish(context.Background(), p)
	if err != nil {
		r.Fatal(err)
	}
	return receipt.ID.Seq
}

var metaQoS = [3][][2]string{0: {{"$qos", "0"}}, 2: {{"$qos", "2"}}}

// pipe is the socket of a client without a network.
type pipe struct {
	mu   sync.Mutex
	sent []byte // what the client sends
	got  []byte
	room int // bytes that it takes; <0: everything
	over bool
	news chan struct{} // closed at the next change

	closing func() // called before it is closed; nil: nothing happens
}

func newPipe() *pipe { return &pipe{room: -1, news: make(chan struct{})} }

func (p *pipe) changed() {
	close(p.news)
	p.news = make(chan struct{})
}

func (p *pipe) TryWrite(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.take(b)
}

func (p *pipe) take(b []byte) (int, error) {
	if p.over {
		return 0, io.EOF
	}
	n := len(b)
	if p.room >= 0 {
		n = min(n, p.room)
		p.room -= n
	}
	p.got = append(p.got, b[:n]...)
	p.changed()
	return n, nil
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for done := 0; ; {
		n, err := p.take(b[done:])
		if done += n; err != nil || done == len(b) {
			return done, err
		}
		news := p.news
		p.mu.Unlock()
		<-news
		p.mu.Lock()
	}
}

func (p *pipe) TryRead(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sent) == 0 && p.over {
		return 0, io.EOF
	}
	n := copy(b, p.sent)
	p.sent = p.sent[n:]
	return n, nil
}

func (p *pipe) Expect()         {}
func (p *pipe) Readable(func()) {}

func (p *pipe) Blocking() bool    { return false }
func (p *pipe) Watch(func(error)) {}
func (p *pipe) Serve()            {}

func (p *pipe) Close() error {
	if p.closing != nil {
		p.closing()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.changed()
	return nil
}

func (p *pipe) closed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over
}

// give makes bytes of the client's arrive.
func (p *pipe) give(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, b...)
}

// allow sets how many more bytes the client takes.
func (p *pipe) allow(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room = n
	p.changed()
}

// options are those of a client.
type options struct {
	id      string
	version byte
	clean   bool
	expiry  time.Duration
	limits  limits
}

// client is a client that is connected.
type client struct {
	*rig
	conn    *conn
	pipe    *pipe
	present bool
	read    int // bytes of pipe.got that were parsed
	packet  uint16
	left    bool
}

// connect opens a session and starts it.
func (r *rig) connect(o options) *client {
	r.Helper()
	c := &client{rig: r, pipe: newPipe()}
	if o.version == 0 {
		o.version = 5
	}
	if o.limits.receive == 0 {
		o.limits.receive = 65535
	}
	c.conn = newConn(r.server, c.pipe, "127.0.0.1:1")
	c.conn.turns.Store(true) // the test does what a turn does
	r.server.running.Add(1)
	c.conn.version, c.conn.clientID, c.conn.key = o.version, o.id, sessionPrefix+sessions.ClientUID("mqtt", "", o.id)
	c.conn.grant, c.conn.limits, c.conn.clean, c.conn.expiry = access.Everything, o.limits, o.clean, o.expiry
	s, present, err := r.server.open(c.conn)
	if err != nil {
		r.Fatal(err)
	}
	c.conn.session, c.present = s, present
	r.clients = append(r.clients, c)
	s.start()
	if err := c.conn.flush(); err != nil {
		r.Fatal(err)
	}
	return c
}

// leave closes the connection, unless it is closed.
func (c *client) leave() {
	if c.left {
		return
	}
	c.left = true
	_ = c.pipe.Close()
	c.conn.finish(io.EOF)
	c.server.running.Done()
}

// do passes a packet of the client's to its session.
func (c *client) do(pk packets.Packet) {
	c.Helper()
	pk.ProtocolVersion = c.conn.version
	if err := c.conn.session.packet(&pk); err != nil {
		c.Fatal(err)
	}
	if err := c.conn.flush(); err != nil && !c.pipe.closed() {
		c.Fatal(err)
	}
}

func (c *client) subscribe(filters ...packets.Subscription) packets.Packet {
	c.Helper()
	c.packet++
	c.do(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: c.packet, Filters: filters})
	return c.expect(packets.Suback)
}

func (c *client) ack(kind byte, id uint16) {
	c.do(packets.Packet{FixedHeader: packets.FixedHeader{Type: kind}, PacketID: id})
}

// next returns the next packet that has arrived, and false if none has.
func (c *client) next() (pk packets.Packet, ok bool) {
	c.Helper()
	c.pipe.mu.Lock()
	defer c.pipe.mu.Unlock()
	b := c.pipe.got[c.read:]
	h, err := readHeader(b)
	if err != nil {
		c.Fatal(err)
	}
	if h.size == 0 || len(b) < h.size+h.Remaining {
		return pk, false
	}
	c.read += h.size + h.Remaining
	body := append([]byte(nil), b[h.size:h.size+h.Remaining]...)
	pk.FixedHeader, pk.ProtocolVersion = h.FixedHeader, c.conn.version
	switch h.Type {
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Unsuback:
		err = pk.UnsubackDecode(body)
	case packets.Pubrel:
		err = pk.PubrelDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	default:
		c.Fatalf("a packet of type %d", h.Type)
	}
	if err != nil {
		c.Fatalf("% x: %v", b[:h.size+h.Remaining], err)
	}
	return pk, true
}

// wait returns the next packet.
func (c *client) wait() packets.Packet {
	c.Helper()
	for late := time.After(patience); ; {
		c.pipe.mu.Lock()
		news := c.pipe.news
		c.pipe.mu.Unlock()
		if pk, ok := c.next(); ok {
			return pk
		}
		select {
		case <-news:
		case <-late:
			c.Fatal("no packet has arrived")
		}
	}
}

// expect returns the next packet, which must have a type.
func (c *client) expect(kind byte) packets.Packet {
	c.Helper()
	pk := c.wait()
	if pk.FixedHeader.Type != kind {
		c.Fatalf("a packet of type %d instead of %d: %+v", pk.FixedHeader.Type, kind, pk)
	}
	return pk
}

// message returns the next packet, which must be a message with a payload.
func (c *client) message(payload string) packets.Packet {
	c.Helper()
	pk := c.expect(packets.Publish)
	if string(pk.Payload) != payload {
		c.Fatalf("the message %q arrived instead of %q", pk.Payload, payload)
	}
	return pk
}

func sub(filter string, qos byte) packets.Subscription {
	return packets.Subscription{Filter: filter, Qos: qos}
}
