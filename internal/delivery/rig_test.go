package delivery_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/sparse"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// rig is a log with its streams and the messages that were appended.
type rig struct {
	t   tester
	log store.Store
	set *delivery.Set
	web *web // nil: connections are fakes

	mu        sync.Mutex
	published []message // by seq; valid if all messages are appended by publish
}

// message is a message that was appended.
type message struct {
	seq        store.Seq
	group, uid string
	body       string
	optional   bool // it has a TTL, so it may expire before it is delivered
}

// newRig returns a rig whose shards watch the log or, if notified is set, are notified of each append.
func newRig(t tester, o memory.Options, notified bool) *rig {
	return newRigOf(t, sparse.New(o), notified)
}

func newRigOf(t tester, log store.Store, notified bool) *rig {
	r := &rig{t: t, log: log}
	r.set = delivery.NewSet(r.log, notified, 1<<30)
	t.Cleanup(func() { r.close() })
	return r
}

func (r *rig) close() {
	r.set.Close("shutdown")
	if r.web != nil {
		r.web.close(r.t)
	}
	if err := r.log.Close(); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) newest() store.Seq {
	_, newest := r.log.Bounds()
	return newest.Seq
}

func (r *rig) epoch() string {
	_, newest := r.log.Bounds()
	return newest.Epoch
}

// publish appends messages, all at once.
func (r *rig) publish(batch ...store.Message) store.Seq {
	entries := make([]store.Entry, len(batch))
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, m := range batch {
		m.Time = time.Now()
		m.Msg = store.AppendQuote(nil, string(m.Msg))
		entries[i] = m.Entry(nil)
	}
	first, err := r.log.Append(context.Background(), entries)
	if err != nil {
		r.t.Fatal(err)
	}
	r.set.Appended(first.Seq, entries, delivery.Few)
	for i, m := range batch {
		r.published = append(r.published, message{
			seq: first.Seq + store.Seq(i), group: m.Group, uid: m.UID, body: string(entries[i].Message.Msg), optional: !m.Expires.IsZero(),
		})
	}
	return first.Seq + store.Seq(len(batch)-1)
}

// at returns the seq of the nth message, or 0, the position before the first one.
func (r *rig) at(n int) store.Seq {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n == 0 {
		return 0
	}
	return r.published[n-1].seq
}

// say appends one message.
func (r *rig) say(name, body string) store.Seq {
	return r.publish(store.Message{Group: name, Msg: []byte(body)})
}

func filters(list ...string) (set group.Set) {
	for _, s := range list {
		f, err := group.ParseFilter(s)
		if err != nil {
			panic(err)
		}
		set = append(set, f)
	}
	return set
}

func (r *rig) policy(filter string, p store.Policy) { r.log.SetPolicy(filters(filter)[0], p) }

// listener is a stream with its connection.
type listener struct {
	*fakeConn
	stream *delivery.Stream
	done   chan delivery.Reason
}

// setup changes the configuration of a stream, or its connection.
type setup func(*delivery.Config, *fakeConn)

func after(seq store.Seq) setup {
	return func(c *delivery.Config, _ *fakeConn) { c.Start = delivery.Start{After: seq} }
}
func start(s delivery.Start) setup { return func(c *delivery.Config, _ *fakeConn) { c.Start = s } }
func blocking(on bool) setup       { return func(_ *delivery.Config, f *fakeConn) { f.blocking = on } }
func takes(n func(int) int) setup  { return func(_ *delivery.Config, f *fakeConn) { f.takes = n } }
func view(v delivery.View) setup   { return func(c *delivery.Config, _ *fakeConn) { c.View = v } }
func session(uid string) setup     { return func(c *delivery.Config, _ *fakeConn) { c.UID = uid } }
func beat(d time.Duration) setup   { return func(c *delivery.Config, _ *fakeConn) { c.Heartbeat = d } }

// make creates a stream. It starts at the end of the log unless a setup changes that.
func (r *rig) make(f group.Set, with ...setup) *listener {
	l := &listener{fakeConn: newConn(r.newest), done: make(chan delivery.Reason, 2)}
	c := delivery.Config{
		Filters: f, Heartbeat: time.Hour, Done: func(why delivery.Reason) { l.done <- why },
		Start: delivery.Start{After: r.newest(), Live: true},
	}
	for _, w := range with {
		w(&c, l.fakeConn)
	}
	if l.codec != nil {
		c.Codec, l.codec.t, l.codec.view, c.View = l.codec, r.t, c.View, delivery.View{}
	}
	l.stream = r.set.New(c)
	if l.codec != nil {
		l.codec.resume = l.stream.Resume
	}
	return l
}

// run runs the stream and returns the result of Run.
func (r *rig) run(l *listener) bool {
	if r.web != nil {
		return r.web.run(r.t, l)
	}
	return l.stream.Run(l.fakeConn)
}

// listen opens a stream and returns when it has followed to the end.
func (r *rig) listen(f group.Set, with ...setup) *listener {
	r.t.Helper()
	l := r.make(f, with...)
	if !r.run(l) {
		r.t.Fatal("the set is closed")
	}
	return l
}

func (l *listener) hangUp() { l.stream.Gone(io.EOF) }

// ended waits for the stream's end and returns the reason.
func (l *listener) ended(t tester) delivery.Reason {
	t.Helper()
	select {
	case why := <-l.done:
		return why
	case <-time.After(patience):
		t.Fatal("the stream did not end")
		return ""
	}
}

// tester holds the methods that the rig uses of a testing.T or a rapid.T.
type tester interface {
	Helper()
	Error(...any)
	Errorf(string, ...any)
	Fatal(...any)
	Fatalf(string, ...any)
	Cleanup(func())
}

func (m message) String() string { return fmt.Sprintf("%d to %s: %.40s", m.seq, m.group, m.body) }
