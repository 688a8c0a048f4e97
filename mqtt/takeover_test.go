package mqtt

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/hub"
)

func TestASecondConnectionTakesTheSessionOver(t *testing.T) {
	r := serve(t, nil)
	first := r.admitted("a", nil)
	other := r.admitted("b", nil)
	begun := time.Now()
	second := r.admitted("a", nil)
	first.expectEnd(packets.ErrSessionTakenOver.Code)
	third := r.admitted("a", old)
	second.expectEnd(packets.ErrSessionTakenOver.Code)
	if took := time.Since(begun); took < takeoverPause {
		t.Errorf("the second takeover came after %v", took)
	}
	r.admitted("a", nil)
	third.expectEnd(0)
	other.ping()
}

func TestTheNewestOfTheConnectionsThatWaitGetsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		holder, _ := r.contender("mqtt/a")
		if err := r.server.hold(holder); err != nil {
			t.Fatal(err)
		}
		r.server.takenElsewhere(holder) // so that the others wait
		begun := time.Now()
		older, _ := r.contender(holder.key)
		newer, _ := r.contender(holder.key)
		refused, got := make(chan error, 1), make(chan error, 1)
		go func() { refused <- r.server.hold(older) }()
		synctest.Wait()
		go func() { got <- r.server.hold(newer) }()
		if err := <-refused; !errors.Is(err, errNewer) || time.Since(begun) > 0 {
			t.Errorf("the older one was not refused at once: %v", err)
		}
		time.Sleep(takeoverPause)
		synctest.Wait()
		if code := holder.leaving.Load(); code == nil || *code != packets.ErrSessionTakenOver {
			t.Error("the session was not taken over:", code)
		}
		r.server.release(holder)
		holder.done.reach()
		if err := <-got; err != nil {
			t.Error("the newer one did not get the session:", err)
		}
	})
}

func TestOnlyTakeoversThatHappenCount(t *testing.T) {
	r := serve(t, func(_ *hub.Options, o *Options) { o.takeoverPause = time.Hour })
	first := r.admitted("a", nil)
	second := r.admitted("a", nil)
	first.expectEnd(packets.ErrSessionTakenOver.Code)
	newest := r.waits("a")
	for range 20 {
		older := newest
		newest = r.waits("a")
		if ack := older.expect(packets.Connack); ack.ReasonCode != packets.ErrServerBusy.Code {
			t.Errorf("CONNACK %#x", ack.ReasonCode)
		}
		older.expectEnd(0)
	}
	second.send(packets.Disconnect, &packets.Packet{})
	second.expectEnd(0)
	if ack := newest.expect(packets.Connack); ack.ReasonCode != 0 {
		t.Errorf("CONNACK %#x", ack.ReasonCode)
	}
	r.admitted("a", nil) // it need not wait, since nobody has taken the session over from the second one
	newest.expectEnd(packets.ErrSessionTakenOver.Code)
	if n := r.hub.Stats().MQTT.Takeovers; n != 2 {
		t.Errorf("%d takeovers, want 2", n)
	}
}

func TestAConnectionThatEndsByItselfIsNotTakenOver(t *testing.T) {
	r := newRig(t)
	for range 50 {
		c := newConn(r.server, newPipe(), "127.0.0.1:1")
		c.turns.Store(true)
		_ = c.Close()
		c.done.reach()
		if err := r.server.takeOver(c, nil); err != nil || c.leaving.Load() != nil {
			t.Fatalf("it was taken over: %v", err)
		}
	}
	if n := r.hub.Stats().MQTT.Takeovers; n != 0 {
		t.Errorf("%d takeovers", n)
	}
}

// contender returns a connection of a client that wants a session, and the client's side of it.
func (r *rig) contender(key string) (*conn, *pipe) {
	p := newPipe()
	c := newConn(r.server, p, "127.0.0.1:1")
	c.turns.Store(true) // it has no turns
	c.key = key
	return c, p
}

// holder returns a connection that has a session for a minute.
func (r *rig) holder(key string) *conn {
	c, _ := r.contender(key)
	if err := r.server.hold(c); err != nil {
		r.Fatal(err)
	}
	late := time.AfterFunc(time.Minute, func() {
		r.server.release(c)
		c.done.reach()
	})
	r.Cleanup(func() { late.Stop() })
	return c
}

func TestAClientThatLeavesWhileItWaitsTakesNoSessionOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		holder := r.holder("mqtt/a")
		for _, sent := range []string{"", "\xc0\x00", strings.Repeat("\xc0\x00", 1000)} {
			r.server.takenElsewhere(holder) // so that the next one waits
			waits, client := r.contender(holder.key)
			client.give([]byte(sent))
			_ = client.Close()
			if err := r.server.hold(waits); !errors.Is(err, errLeft) {
				t.Errorf("after %d bytes: %v", len(sent), err)
			}
		}
		if holder.leaving.Load() != nil || r.hub.Stats().MQTT.Takeovers != 0 || len(r.server.waiting) != 0 {
			t.Error("the session was taken over")
		}
	})
}

// TestAClientWithoutAPollerThatLeavesWhileItWaits has a client say goodbye, whose connection is read by a goroutine, such as a
// WebSocket. That reads on when what it has read was taken.
func TestAClientWithoutAPollerThatLeavesWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		holder := r.holder("mqtt/a")
		r.server.takenElsewhere(holder)
		ours, client := net.Pipe()
		waits, _ := r.contender(holder.key)
		var err error
		if waits.socket, err = r.hub.Poller().Adopt(ours, nil); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		go func() {
			_, _ = client.Write([]byte{packets.Disconnect << 4, 0})
			_ = client.Close()
		}()
		if err := r.server.hold(waits); !errors.Is(err, errLeft) || time.Since(begun) > 0 {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		if holder.leaving.Load() != nil || r.hub.Stats().MQTT.Takeovers != 0 {
			t.Error("the session was taken over")
		}
		_ = waits.socket.Close()
	})
}

func TestWhatAClientSendsWhileItWaitsIsHandledAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		holder, _ := r.contender("mqtt/a")
		if err := r.server.hold(holder); err != nil {
			t.Fatal(err)
		}
		r.server.takenElsewhere(holder)
		waits, client := r.contender(holder.key)
		var sent []byte
		for i := range 2 * maxAhead {
			sent = append(sent, byte(i>>8), byte(i))
		}
		client.give(sent)
		go func() {
			time.Sleep(2 * takeoverPause)
			holder.done.reach()
			r.server.release(holder)
		}()
		if err := r.server.hold(waits); err != nil || holder.leaving.Load() == nil {
			t.Fatalf("the session was not taken over: %v", err)
		}
		var got []byte
		for b := make([]byte, 1000); ; {
			n, err := waits.tryRead(b)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			got = append(got, b[:n]...)
		}
		if !bytes.Equal(got, sent) {
			t.Errorf("%d bytes are not what the client has sent", len(got))
		}
	})
}

// TestATakeoverThatAnotherConnectionHasBegunCounts has a connection that gets the session while an older one, which has ended
// the holder, has not noticed it yet.
func TestATakeoverThatAnotherConnectionHasBegunCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		holder, _ := r.contender("mqtt/a")
		older, _ := r.contender(holder.key)
		newer, _ := r.contender(holder.key)
		for _, c := range []*conn{holder, older} {
			if _, err := r.server.tryHold(c, false); err != nil {
				t.Fatal(err)
			}
		}
		holder.leave(packets.ErrSessionTakenOver)
		r.server.release(holder)
		if err := r.server.hold(newer); err != nil {
			t.Fatal(err)
		}
		if _, err := r.server.tryHold(older, true); !errors.Is(err, errNewer) {
			t.Error("the older connection was not refused:", err)
		}
		newest, _ := r.contender(holder.key)
		go func() { _ = r.server.hold(newest) }()
		synctest.Wait()
		if newer.leaving.Load() != nil {
			t.Error("the session was taken over again at once")
		}
		newer.done.reach()
		r.server.release(newer)
	})
}

// waits connects a client that has to wait for its session.
func (r *wired) waits(id string) *wire {
	r.Helper()
	c, before := r.dial(), r.waiting()
	c.send(packets.Connect, &packets.Packet{Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: id, Clean: true}})
	r.until(func() bool { now := r.waiting(); return now != nil && now != before })
	return c
}

// waiting returns a connection that waits for its session, or nil.
func (r *wired) waiting() *conn {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	for _, w := range r.server.waiting {
		return w.conn
	}
	return nil
}
