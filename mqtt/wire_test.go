package mqtt

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// wirePatience is how long tests wait for what must happen.
const wirePatience = time.Minute

// wired is a server on a hub.
type wired struct {
	*testing.T
	hub    *hub.Hub
	server *Server
	addr   string
}

// serve starts a hub with a log in memory, and a server on it.
func serve(t *testing.T, set func(*hub.Options, *Options)) *wired {
	t.Helper()
	return serveOn(t, memory.New(memory.Options{MaxMemory: 64 << 20, MaxGroups: 1000}), set)
}

func serveOn(t *testing.T, log store.Store, set func(*hub.Options, *Options)) *wired {
	t.Helper()
	ho, o := hub.Defaults(), Options{MaxKeepAlive: 5 * time.Minute, QueueQoS0: true}
	if set != nil {
		set(&ho, &o)
	}
	o.Logger = ho.Logger
	h, err := hub.New(log, ho)
	if err != nil {
		t.Fatal(err)
	}
	r := &wired{T: t, hub: h, server: New(h, o)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(ln) }()
	t.Cleanup(func() {
		h.EndStreams("shutdown")
		if err := errors.Join(r.server.Close(), h.Close()); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, ErrClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return r
}

// wire is a client that speaks in packets.
type wire struct {
	*testing.T
	net.Conn
	version byte
}

// dial connects without a CONNECT.
func (r *wired) dial() *wire {
	r.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(wirePatience))
	return &wire{r.T, nc, 5}
}

// connect connects a client of MQTT 5, and returns the CONNACK. set may change the CONNECT.
func (r *wired) connect(id string, set func(*packets.Packet)) (*wire, *packets.Packet) {
	r.Helper()
	c := r.dial()
	pk := packets.Packet{ProtocolVersion: 5, Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: id, Clean: true}}
	if set != nil {
		set(&pk)
	}
	c.version = pk.ProtocolVersion
	c.send(packets.Connect, &pk)
	return c, c.expect(packets.Connack)
}

// admitted is connect for a client that has to be admitted.
func (r *wired) admitted(id string, set func(*packets.Packet)) *wire {
	r.Helper()
	c, ack := r.connect(id, set)
	if ack.ReasonCode != 0 {
		r.Fatalf("CONNACK %#x %s", ack.ReasonCode, ack.Properties.ReasonString)
	}
	return c
}

// old makes a client speak MQTT 3.1.1.
func old(pk *packets.Packet) { pk.ProtocolVersion = 4 }

var encoders = map[byte]func(*packets.Packet, *bytes.Buffer) error{
	packets.Connect: (*packets.Packet).ConnectEncode, packets.Publish: (*packets.Packet).PublishEncode,
	packets.Puback: (*packets.Packet).PubackEncode, packets.Pubrec: (*packets.Packet).PubrecEncode,
	packets.Pubrel: (*packets.Packet).PubrelEncode, packets.Pubcomp: (*packets.Packet).PubcompEncode,
	packets.Subscribe: (*packets.Packet).SubscribeEncode, packets.Unsubscribe: (*packets.Packet).UnsubscribeEncode,
	packets.Pingreq: (*packets.Packet).PingreqEncode, packets.Disconnect: (*packets.Packet).DisconnectEncode,
	packets.Auth: (*packets.Packet).AuthEncode,
}

// encoded returns the bytes of a packet.
func (c *wire) encoded(kind byte, pk *packets.Packet) []byte {
	c.Helper()
	pk.ProtocolVersion, pk.FixedHeader.Type = c.version, kind
	if kind == packets.Pubrel || kind == packets.Subscribe || kind == packets.Unsubscribe {
		pk.FixedHeader.Qos = 1
	}
	pk.Mods.AllowResponseInfo = true
	var b bytes.Buffer
	if err := encoders[kind](pk, &b); err != nil {
		c.Fatal(err)
	}
	return b.Bytes()
}

func (c *wire) send(kind byte, pk *packets.Packet) {
	c.Helper()
	c.raw(c.encoded(kind, pk))
}

func (c *wire) raw(b []byte) {
	c.Helper()
	if _, err := c.Write(b); err != nil {
		c.Fatal(err)
	}
}

// publish sends a PUBLISH.
func (c *wire) publish(topic, payload string, qos byte, id uint16, set func(*packets.Packet)) {
	c.Helper()
	pk := packets.Packet{TopicName: topic, Payload: []byte(payload), PacketID: id}
	pk.FixedHeader.Qos = qos
	if set != nil {
		set(&pk)
	}
	c.send(packets.Publish, &pk)
}

// receive reads a packet, or nil at the end of the connection.
func (c *wire) receive() *packets.Packet {
	c.Helper()
	var first [1]byte
	if _, err := io.ReadFull(c, first[:]); err != nil {
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			c.Fatal(err)
		}
		return nil
	}
	pk := &packets.Packet{ProtocolVersion: c.version}
	if err := pk.FixedHeader.Decode(first[0]); err != nil {
		c.Fatal(err)
	}
	n, _, err := packets.DecodeLength(oneByte{c})
	if err != nil {
		c.Fatal(err)
	}
	pk.FixedHeader.Remaining = n
	body := make([]byte, n)
	if _, err := io.ReadFull(c, body); err != nil {
		c.Fatal(err)
	}
	decode := map[byte]func([]byte) error{
		packets.Connack: pk.ConnackDecode, packets.Publish: pk.PublishDecode, packets.Puback: pk.PubackDecode,
		packets.Pubrec: pk.PubrecDecode, packets.Pubrel: pk.PubrelDecode, packets.Pubcomp: pk.PubcompDecode,
		packets.Suback: pk.SubackDecode, packets.Unsuback: pk.UnsubackDecode, packets.Pingresp: pk.PingrespDecode,
		packets.Disconnect: pk.DisconnectDecode,
	}[pk.FixedHeader.Type]
	if decode == nil {
		c.Fatalf("a packet of type %d", pk.FixedHeader.Type)
	}
	if err := decode(body); err != nil {
		c.Fatalf("%s % x: %v", packets.PacketNames[pk.FixedHeader.Type], body, err)
	}
	return pk
}

type oneByte struct{ r io.Reader }

func (o oneByte) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(o.r, b[:])
	return b[0], err
}

// expect reads a packet that has to be of a kind.
func (c *wire) expect(kind byte) *packets.Packet {
	c.Helper()
	pk := c.receive()
	switch {
	case pk == nil:
		c.Fatalf("the connection ended instead of a %s", packets.PacketNames[kind])
	case pk.FixedHeader.Type != kind:
		c.Fatalf("%s %#x %s instead of %s", packets.PacketNames[pk.FixedHeader.Type], pk.ReasonCode, pk.Properties.ReasonString, packets.PacketNames[kind])
	}
	return pk
}

// expectAck reads an acknowledgement with an id and a code.
func (c *wire) expectAck(kind byte, id uint16, code byte) {
	c.Helper()
	if pk := c.expect(kind); pk.PacketID != id || pk.ReasonCode != code {
		c.Fatalf("%s of %d with %#x %s, want %d with %#x", packets.PacketNames[kind], pk.PacketID, pk.ReasonCode, pk.Properties.ReasonString, id, code)
	}
}

// expectEnd reads until the connection ends. A client of MQTT 5 has to get a DISCONNECT with a code before, unless it
// is 0.
func (c *wire) expectEnd(code byte) {
	c.Helper()
	if c.version == 5 && code != 0 {
		if pk := c.expect(packets.Disconnect); pk.ReasonCode != code {
			c.Fatalf("DISCONNECT %#x %s instead of %#x", pk.ReasonCode, pk.Properties.ReasonString, code)
		}
	}
	if pk := c.receive(); pk != nil {
		c.Fatalf("%s %#x instead of the end of the connection", packets.PacketNames[pk.FixedHeader.Type], pk.ReasonCode)
	}
}

// ping waits until the server has handled everything before.
func (c *wire) ping() {
	c.Helper()
	c.send(packets.Pingreq, &packets.Packet{})
	c.expect(packets.Pingresp)
}

// messages returns the payloads of a group's messages, as MQTT clients get them.
func (r *wired) messages(name string) (list []string) {
	r.Helper()
	err := r.frames(name, hub.From{All: true}, func(f *store.Frame) { list = append(list, string(payload(r, f))) })
	if err != nil {
		r.Fatal(err)
	}
	return list
}

func (r *wired) frames(name string, from hub.From, visit func(*store.Frame)) error {
	q := hub.History{Filters: group.Set{group.Exact(name)}, From: from}
	_, err := r.hub.Replay(r.Context(), &q, hub.Answer{
		Message: func(f *store.Frame) error { visit(f); return nil },
		Gap:     func(delivery.Gap) error { return errors.New("a gap") },
	})
	return err
}

// payload returns the bytes that were published.
func payload(t testing.TB, f *store.Frame) []byte {
	if f.Flags&store.IsBase64 == 0 {
		return f.Payload(nil)
	}
	msg := f.JSON()
	b, err := base64.StdEncoding.DecodeString(string(msg[1 : len(msg)-1]))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (r *wired) expectMessages(name string, want ...string) {
	r.Helper()
	if got := r.messages(name); !slices.Equal(got, want) {
		r.Fatalf("%s has the messages %q, not %q", name, got, want)
	}
}

func (r *wired) expectCount(name string, want int) {
	r.Helper()
	if got := r.messages(name); len(got) != want {
		r.Fatalf("%s has the messages %q, not %d", name, got, want)
	}
}

func filters(t testing.TB, list ...string) (set group.Set) {
	t.Helper()
	for _, s := range list {
		f, err := group.ParseFilter(s)
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, f)
	}
	return set
}
