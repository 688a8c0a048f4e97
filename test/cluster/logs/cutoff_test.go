//go:build !windows

package logs

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// valve is a dialer whose connections can be cut.
type valve struct {
	mu     sync.Mutex
	closed bool
	conns  []net.Conn
}

func (v *valve) Dial(network, address string) (net.Conn, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, net.ErrClosed
	}
	c, err := net.Dial(network, address)
	if err == nil {
		v.conns = append(v.conns, c)
	}
	return c, err
}

func (v *valve) set(closed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = closed
	if closed {
		for _, c := range v.conns {
			_ = c.Close()
		}
		v.conns = nil
	}
}

// whileAway cuts a log off from the servers, calls f, and connects the log again.
func whileAway(t *testing.T, l *jetstream.Log, v *valve, f func()) {
	t.Helper()
	v.set(true)
	eventually(t, "the log is away", func() bool { return l.Err() != nil })
	f()
	v.set(false)
}

// tapped is a valve whose connections ask a test before they send something.
type tapped struct {
	valve
	sends atomic.Pointer[func([]byte) bool] // false: it is lost
}

// tap sets what is asked.
func (v *tapped) tap(sends func([]byte) bool) { v.sends.Store(&sends) }

// lose loses what matches. lost is closed when something does.
func (v *tapped) lose(matches func([]byte) bool) (lost <-chan struct{}) {
	var once sync.Once
	first := make(chan struct{})
	v.tap(func(b []byte) (sent bool) {
		if sent = !matches(b); !sent {
			once.Do(func() { close(first) })
		}
		return sent
	})
	return first
}

// loseNothing ends lose.
func (v *tapped) loseNothing() { v.sends.Store(nil) }

// asksForCounts reports whether a hub asks how many messages the stream has.
func asksForCounts(b []byte) bool { return bytes.Contains(b, []byte("subjects_filter")) }

// Dial implements jetstream.Dialer.
func (v *tapped) Dial(network, address string) (net.Conn, error) {
	c, err := v.valve.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return &tappedConn{c, v}, nil
}

type tappedConn struct {
	net.Conn
	*tapped
}

// Write implements net.Conn.
func (c *tappedConn) Write(b []byte) (int, error) {
	if sends := c.sends.Load(); sends != nil && !(*sends)(b) {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// TestAnAppendThatAnotherLogHasMadeLongAgoIsNotRepeated cuts a log off. Meanwhile another one stores an answer. When the log is back, it is asked for the
// same: the servers have forgotten the id by then.
func TestAnAppendThatAnotherLogHasMadeLongAgoIsNotRepeated(t *testing.T) {
	o := jetstream.Options{URL: servers.ForTest(t, 1).URL(), Stream: newStream(), Times: quick}
	a, v := open(t, o), &valve{}
	o.Dialer = rewrite(func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte("Nats-Msg-Id: once-"), []byte("Nats-Msg-Id: 0nce-"))
	}).over(v)
	b := open(t, o)
	once := func(l *jetstream.Log) error {
		_, err := l.AppendNoted(t.Context(), []store.Entry{text("x", "once")}, store.Note{Key: "answer", Value: []byte("x"), Brief: true, Guarded: true})
		return err
	}
	repeated := make(chan error)
	whileAway(t, b, v, func() {
		must(t, once(a))
		<-time.After(25 * o.Times.Beat) // a lag that is much shorter than the servers remember ids does not matter
		asks := make(chan struct{})
		go func() {
			close(asks)
			repeated <- once(b)
		}()
		<-asks
	})
	if err := <-repeated; !errors.Is(err, store.ErrConflict) {
		t.Error(err)
	}
	if h := read(t, a, "x", 0); h.n != 1 {
		t.Error(h)
	}
}

// TestALogThatAppendsAnswersDoesNotAskTheLeaderEachTime has a log that has caught up a while ago, and is busy since.
func TestALogThatAppendsAnswersDoesNotAskTheLeaderEachTime(t *testing.T) {
	const answers = 200
	v := &tapped{}
	o := jetstream.Options{URL: servers.ForTest(t, 1).URL(), Stream: newStream(), Dialer: v, Times: quick}
	a := open(t, o)
	for began := time.Now(); time.Since(began) < 25*o.Times.Beat; {
		add(t, a, text("x", "1"))
	}
	var asked atomic.Int64
	v.tap(func(b []byte) bool {
		asked.Add(int64(bytes.Count(b, []byte("$JS.API.STREAM.INFO."+o.Stream+" "))))
		return true
	})
	for i := range answers {
		_, err := a.AppendNoted(t.Context(), []store.Entry{text("x", "1")}, store.Note{Key: fmt.Sprint("answer", i), Value: []byte("x"), Brief: true, Guarded: true})
		must(t, err)
	}
	if n := asked.Load(); n >= answers {
		t.Errorf("the log has asked %d times for %d answers", n, answers)
	}
}

func TestALogThatWasCutOffReadsOnWithoutAGap(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream(), Times: quick}
	o.Times.Grace = time.Hour
	a := open(t, o)
	v := &valve{}
	o.Dialer = v
	b := open(t, o)
	var last store.Seq
	whileAway(t, b, v, func() {
		for i := range 20 {
			add(t, a, text("x", fmt.Sprint(i)))
			id, err := a.AppendNoted(t.Context(), []store.Entry{text("x", "noted")}, store.Note{Key: "note", Value: []byte{byte(i)}})
			must(t, err)
			last = id.Seq
		}
		must(t, a.SetPolicy(filters("x")[0], store.Policy{MaxMessages: 30}))
	})
	eventually(t, "the log is back", func() bool { _, n := end(b); return b.Err() == nil && n >= last })
	eventually(t, "the policy is applied", func() bool { return read(t, b, "x", 0).n == 30 })
	if ha, hb := read(t, a, "#", last-10), read(t, b, "#", last-10); ha != hb || ha.gap != 0 {
		t.Errorf("%v and %v", ha, hb)
	}
}

// TestALogThatMissedAPurgeGoesOnThoughItAppends appends to a log that has to find out why messages are missing. Its consumer sends heartbeats more
// seldom than an append is looked after.
func TestALogThatMissedAPurgeGoesOnThoughItAppends(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream(), Times: jetstream.Times{Beat: 4 * time.Second, Patience: patience}}
	a, v := open(t, o), &valve{}
	o.Dialer = v
	b := open(t, o)
	stream, err := connect(t, url).Stream(t.Context(), o.Stream)
	must(t, err)
	whileAway(t, b, v, func() {
		for range 10 {
			add(t, a, text("x", "purged"), text("y", "kept"))
		}
		must(t, stream.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m.x")))
	})
	eventually(t, "the log is back", func() bool { return b.Err() == nil })
	done := make(chan error, 1)
	go func() {
		_, err := b.Append(t.Context(), []store.Entry{text("y", "of b")})
		done <- err
	}()
	var appended bool
	eventually(t, "the append is answered", func() bool {
		add(t, a, text("y", "of a"))
		select {
		case err := <-done:
			must(t, err)
			appended = true
		default:
		}
		return appended
	})
}

// TestALogThatIsCutOffReadsWhatItHasReceived cuts a log off that waits for the delivery of earlier messages.
func TestALogThatIsCutOffReadsWhatItHasReceived(t *testing.T) {
	o := jetstream.Options{URL: servers.ForTest(t, 1).URL(), Stream: newStream(), Times: quick}
	o.Times.Beat = 2 * time.Second // the consumer is not replaced because the log waits
	a := open(t, o)
	d := &receiving{text: []byte("the last one")}
	o.Dialer = d
	b := open(t, o)
	release := stall(t, a, b)
	for range 20 {
		add(t, a, text("x", "one of many"))
	}
	add(t, a, text("x", string(d.text)))
	eventually(t, "the log has received all messages", d.received.Load)
	d.set(true)
	eventually(t, "the log has tried several times to connect", func() bool { return d.refused.Load() > 4 })
	release()
	eventually(t, "the messages can be read while NATS is away", func() bool { return read(t, b, "x", 0).n == 21 })
}

// receiving is a valve that tells whether a text was received, and how many connections were refused.
type receiving struct {
	valve
	text     []byte
	received atomic.Bool
	refused  atomic.Int64
}

// Dial implements jetstream.Dialer.
func (v *receiving) Dial(network, address string) (net.Conn, error) {
	c, err := v.valve.Dial(network, address)
	if err != nil {
		v.refused.Add(1)
		return nil, err
	}
	return &receivingConn{Conn: c, to: v}, nil
}

type receivingConn struct {
	net.Conn
	to  *receiving
	end []byte // of what was received
}

// Read implements net.Conn.
func (c *receivingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.end = append(c.end, b[:n]...)
	if bytes.Contains(c.end, c.to.text) {
		c.to.received.Store(true)
	}
	c.end = slices.Clone(c.end[max(len(c.end)-len(c.to.text), 0):])
	return n, err
}

func TestWhatIsPurgedWhileALogIsCutOffIsAGapThere(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream()}
	v := &valve{}
	o.Dialer = v
	b := open(t, o)
	o.Dialer = nil
	a := open(t, o)
	add(t, a, text("x", "before"))
	_, before := end(a)
	eventually(t, "both have it", func() bool { _, n := end(b); return n == before })
	stream, err := connect(t, url).Stream(t.Context(), o.Stream)
	must(t, err)
	var last store.Seq
	whileAway(t, b, v, func() {
		add(t, a, text("x", "purged"))
		last = add(t, a, text("y", "stays"))
		must(t, a.Close())
		must(t, stream.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m.x")))
	})
	eventually(t, "the log is back", func() bool { _, n := end(b); return n >= last })
	if h := read(t, b, "x", before); h.gap == 0 {
		t.Errorf("a message was purged that this log had not read: %v", h)
	}
}

// TestALogThatIsCutOffWhileItCleansUpIsBackSoon cuts a log off when it asks the servers something. It does not wait for the answer when it is back.
func TestALogThatIsCutOffWhileItCleansUpIsBackSoon(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin, v := connect(t, url), &tapped{}
	o := jetstream.Options{URL: url, Stream: newStream(), Dialer: v, Times: quick}
	a := open(t, o)
	asked := v.lose(asksForCounts)
	add(t, a, text("x", "1"))
	<-asked
	whileAway(t, a, &v.valve, v.loseNothing)
	counted(t, admin, o.Stream, add(t, a, text("x", "2")))
}
