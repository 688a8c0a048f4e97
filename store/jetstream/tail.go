package jetstream

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
)

// tail reads the stream in order, and gives everything to the log. A push consumer delivers the messages. If the
// consumer is lost or skips something, another one continues.
type tail struct {
	l      *Log
	again  chan struct{} // wakes run to make a new consumer
	absent time.Time     // since when there is no stream; only run uses it
	doubt  doubt         // about the stream; only Open and run use it
	fresh  atomic.Bool   // messages were placed since the last wait for delivery
	heard  atomic.Int64  // when the consumer last gave a sign of life, Unix ms; 0: there is none, or the stream may be another one

	maxMsgSize, maxBytes atomic.Int64 // of the stream's configuration; 0 or less: none
	bounds               atomic.Pointer[bounds]

	mu       sync.Mutex // guards the fields below
	sub      *nats.Subscription
	consumer string
	life     int       // of the consumer: what an earlier one delivers is ignored
	isCut    bool      // the connection was lost since the consumer was made: what it has sent is no sign of life
	created  time.Time // of the stream
	past     []string  // the epochs that have ended
	replaced bool      // the stream has another epoch
	last     uint64    // the consumer's number of the last message
	at       store.Seq // the last message that was received
	proof    proof     // that this stream was read
	reached  store.Seq // everything up to here is placed
	flow     place     // the last message that was received
	woken    place     // the one with which the janitor was woken to look at notes
	waiting  []*arrival

	folding    store.Seq // the stream's end when the tail began to read it from the first message; 0: it has reached that
	holes      holes
	current    time.Time    // when everything in the stream was read last
	purged     []purgedNote // the newest ones
	noted      register
	unfinished []record // of an append that is not complete
	placing    placing
	names      map[string]string // groups
}

// arrival waits until the tail has reached a position.
type arrival struct {
	at   store.Seq
	done chan struct{}
	err  error // if the tail will not; set before done is closed
}

func newTail(l *Log) *tail {
	return &tail{l: l, again: make(chan struct{}, 1), names: map[string]string{}, noted: register{seed: maphash.MakeSeed()}}
}

// start reads the stream up to its end, and then follows it until the log is closed.
func (t *tail) start(ctx context.Context) error {
	var info *jetstream.StreamInfo
	err := patiently(ctx, func(ctx context.Context) (err error) {
		t.detach() // from the attempt before
		info, err = t.attach(ctx, startAttempt)
		return err
	})
	if err != nil {
		return fmt.Errorf("following the stream %s: %w", t.l.opts.Stream, advised(err, t.l.opts.Stream))
	}
	end := store.Seq(info.State.LastSeq)
	t.l.running.Go(t.run)
	if err := t.waitFor(ctx, end); err != nil {
		return fmt.Errorf("reading the stream %s: %w", t.l.opts.Stream, err)
	}
	return nil
}

// run keeps a consumer alive until the log is closed.
func (t *tail) run() {
	tick := time.NewTicker(t.l.opts.Times.Beat / 4)
	defer tick.Stop()
	attached := true
	for failures := 0; ; {
		select {
		case <-t.l.ctx.Done():
			return
		case <-t.again:
			attached = false
		case <-tick.C:
			attached = attached && t.following()
		}
		if attached {
			if t.l.silent() != "" {
				t.l.probe(t.l.ctx)
			}
			continue
		}
		if t.l.offline.Load() { // what the consumer had sent is still taken
			t.failed(nats.ErrDisconnected)
			continue
		}
		t.l.unheard.begin()
		t.detach()
		if _, err := t.attach(t.l.ctx, attachTimeout(failures)); err != nil {
			t.failed(err)
			failures++
			continue // the next tick tries again
		}
		attached, failures = true, 0
		t.l.back()
		t.l.unheard.look()
	}
}

// attachTimeout returns how long an attempt to make a consumer may take. A request that is sent while servers elect a
// leader is not answered, so the first attempts are short; those on a slow machine become longer.
func attachTimeout(failures int) time.Duration { return 500 * time.Millisecond << min(failures/8, 4) }

// failed is called if no consumer can be made. If the server does not even answer a ping, the log connects to another one.
func (t *tail) failed(err error) {
	if t.l.ctx.Err() != nil {
		return
	}
	t.l.lost(err)
	if !t.l.offline.Load() && t.l.nc.FlushTimeout(t.l.opts.Times.Beat) != nil {
		_ = t.l.nc.ForceReconnect() // it fails only if the connection is closed
	}
}

// following reports whether the tail has a consumer that has given a sign of life lately.
func (t *tail) following() bool {
	return time.Now().UnixMilli()-t.heard.Load() < t.l.opts.Times.Beat.Milliseconds()*5/2
}

// cut makes the tail follow nothing until it has another consumer, since the stream may be another one by then. What the consumer
// had sent before is still taken.
func (t *tail) cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.isCut = true
	t.heard.Store(0)
}

// endLife makes the tail follow nothing, and ignore what the consumer had sent. t.mu is held.
func (t *tail) endLife() {
	t.life++
	t.heard.Store(0)
}

// folded reports whether the tail has read what was in the stream when it began.
func (t *tail) folded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.folding == 0 && t.reached > 0
}

// position returns the last position that was placed.
func (t *tail) position() store.Seq {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reached
}

// received returns the last position that was received.
func (t *tail) received() store.ID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return store.ID{Epoch: t.l.epoch(), Seq: t.at}
}

// has reports whether everything up to an id is placed. An id without an epoch is one of the log's.
func (t *tail) has(id store.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reached >= id.Seq && (id.Epoch == "" || id.Epoch == t.l.epoch())
}

// ended reports whether an epoch has ended.
func (t *tail) ended(epoch string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Contains(t.past, epoch)
}

// restart makes a new consumer, which continues where the old one was.
func (t *tail) restart() {
	select {
	case t.again <- struct{}{}:
	default:
	}
}

// receive is called for each message of a consumer, in order.
func (t *tail) receive(life int, m *nats.Msg) {
	if hold := t.l.hold.Load(); hold != nil && t.fresh.Swap(false) {
		(*hold)(t.l.ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if life != t.life || t.l.closed.Load() {
		return
	}
	if !t.isCut {
		t.heard.Store(time.Now().UnixMilli())
	}
	if !strings.HasPrefix(m.Reply, "$JS.ACK.") {
		t.control(m)
	} else if err := t.message(m); err != nil {
		t.l.opts.Logger.Debug("the consumer is replaced", "error", err)
		t.life++
		t.restart()
		return
	}
	if n, _, err := t.sub.Pending(); err != nil || n <= 1 { // this one still counts
		t.flush()
	}
}

// control handles heartbeats and flow control.
func (t *tail) control(m *nats.Msg) {
	reply := m.Reply
	if reply == "" {
		reply = m.Header.Get("Nats-Consumer-Stalled")
	}
	if reply != "" {
		_ = t.l.nc.Publish(reply, nil) // without a connection the consumer is replaced anyway
	}
	if last := m.Header.Get("Nats-Last-Consumer"); last != "" && last != strconv.FormatUint(t.last, 10) {
		t.life++ // the end of what it sent did not arrive
		t.restart()
		return
	}
	if m.Reply == "" && reply == "" {
		t.idle(m)
	}
}

// idle handles a heartbeat of a consumer that has delivered everything.
func (t *tail) idle(m *nats.Msg) {
	if len(t.holes.missing) > 0 {
		t.release()
	}
	if len(t.unfinished) > 0 {
		t.finish() // the end of the append was removed from the stream
	}
	n, err := strconv.ParseUint(m.Header.Get("Nats-Last-Stream"), 10, 64)
	if last := store.Seq(n); err == nil && last > t.at { // so was the end of the stream
		t.missed(span{t.at + 1, last}, 0, 0)
		t.at = last
		t.proof.delivered(last, time.Time{})
		t.release()
	}
	t.readAll()
}

// readAll is called when the consumer has delivered everything in the stream. What is received after the connection was lost may not be all.
func (t *tail) readAll() {
	if !t.isCut {
		t.current = time.Now().Round(0) // by the clock on the wall: others go on while the machine is suspended
	}
}

var errSkipped = errors.New("the consumer skipped a message")

// message takes a message of the stream.
func (t *tail) message(m *nats.Msg) error {
	d, err := deliveryOf(m.Reply)
	if err != nil {
		return err
	}
	if d.number != t.last+1 {
		return errSkipped
	}
	t.last = d.number
	if d.number == 1 {
		t.holes.renumber(d.pending)
	}
	t.proof.delivered(d.seq, d.stored)
	if d.seq <= t.at {
		return nil
	}
	t.missed(span{t.at + 1, d.seq - 1}, d.number, d.pending)
	if r, ok := t.read(m, d.seq); ok {
		r.place.time = d.stored.UnixMilli()
		switch {
		case len(t.holes.missing) == 0:
			t.take(&r)
		case t.hold(&r, d):
			t.release()
		}
	}
	if d.pending == 0 && len(t.holes.missing) == 0 {
		t.readAll()
	}
	if t.placing.full() {
		t.flush()
	}
	return nil
}

// read reads the message behind the last one that was received. It returns false if it is damaged.
func (t *tail) read(m *nats.Msg, seq store.Seq) (r record, ok bool) {
	t.at = seq
	if t.l.subjects.lasts(m.Subject) {
		t.noted.add(m.Subject, seq)
	}
	p := t.passed(m, seq)
	if err := r.decode(m.Data); err != nil && !t.reread(&r, seq) {
		t.l.opts.Logger.Error("a message of the stream is damaged, or was not written by a hub", "subject", m.Subject, "seq", seq)
		t.place()
		t.l.mem.Lose(seq)
		t.l.mem.Advance(seq)
		return r, false
	}
	r.seq = seq
	t.proof.read(&r)
	if r.is(isNote) {
		if r.foretells() {
			r.value = []byte("{}")
		}
		r.place = p
	}
	return r, true
}

// acknowledged takes a message of this log as received that a server has acknowledged, if everything before it was received.
// The consumer delivers it a little later. With more, other acknowledgements wait to be handled, and the last of them has
// the messages placed.
func (t *tail) acknowledged(m *nats.Msg, seq store.Seq, more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.following() || t.l.closed.Load() { // it may be another stream that has stored it
		return
	}
	if m != nil && seq == t.at+1 && t.folding == 0 && len(t.unfinished)+len(t.holes.missing) == 0 {
		if r, ok := t.read(m, seq); ok {
			t.take(&r)
		}
	}
	if !more || t.placing.full() {
		t.flush()
	}
}

// reread reads a message that is damaged from the leader of the stream, whose copy may be intact.
func (t *tail) reread(r *record, seq store.Seq) bool {
	m, err := t.l.askLeader(t.l.ctx, t.l.opts.Stream, request{Seq: seq})
	return err == nil && m != nil && r.decode(m.Data) == nil
}

// delivery is what the reply subject of a message of a consumer says.
type delivery struct {
	seq     store.Seq
	number  uint64    // of the consumer
	stored  time.Time // when the servers stored the message
	pending uint64    // how many messages follow
}

// deliveryOf parses the reply subject of a message of a consumer:
//
//	$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>[.<random>]
func deliveryOf(reply string) (d delivery, err error) {
	const (
		short = 9 // tokens without a domain
		at    = 5 // token of the stream seq
	)
	from := at
	if strings.Count(reply, ".")+1 > short {
		from += 2
	}
	rest := reply
	for range from {
		_, rest, _ = strings.Cut(rest, ".")
	}
	var numbers [4]uint64
	for i := range numbers {
		var token string
		token, rest, _ = strings.Cut(rest, ".")
		if numbers[i], err = strconv.ParseUint(token, 10, 64); err != nil {
			return d, fmt.Errorf("%q is no position of a consumer", reply)
		}
	}
	return delivery{store.Seq(numbers[0]), numbers[1], time.Unix(0, int64(numbers[2])), numbers[3]}, nil
}

// arrived tells those who wait for a position that the tail has reached.
func (l *Log) arrived(t *tail) {
	if len(t.waiting) == 0 {
		return
	}
	rest := t.waiting[:0]
	for _, a := range t.waiting {
		if a.at <= t.reached {
			close(a.done)
		} else {
			rest = append(rest, a)
		}
	}
	clear(t.waiting[len(rest):])
	t.waiting = rest
}

// waitFor waits until the tail has reached a position.
func (t *tail) waitFor(ctx context.Context, at store.Seq) error {
	return t.waitForID(ctx, store.ID{Seq: at})
}

// waitForID is waitFor for a position of an epoch. It returns errRenewed if the log has another one.
func (t *tail) waitForID(ctx context.Context, id store.ID) error {
	a, err := t.arrival(id)
	if a == nil {
		return err
	}
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		t.forgo(a)
		return ctx.Err()
	case <-t.l.ctx.Done():
		return store.ErrClosed
	}
}

// arrival returns what tells that the tail has reached an id, or nil if it has, or never will.
func (t *tail) arrival(id store.ID) (*arrival, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case id.Epoch != "" && id.Epoch != t.l.epoch():
		return nil, errRenewed
	case t.reached >= id.Seq:
		return nil, nil
	}
	a := &arrival{at: id.Seq, done: make(chan struct{})}
	t.waiting = append(t.waiting, a)
	return a, nil
}

// forgo forgets an arrival that nobody waits for any more.
func (t *tail) forgo(a *arrival) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting, a); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	}
}

// errRenewed is returned to those who wait for a position of an epoch that has ended.
var errRenewed = fmt.Errorf("%w: the stream is another one", store.ErrAway)
