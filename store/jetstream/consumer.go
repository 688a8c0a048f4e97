package jetstream

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
)

// How the tail gets a consumer that delivers the stream to it, and gives it up again.

// attach makes a consumer that continues after the last message delivered.
func (t *tail) attach(ctx context.Context, timeout time.Duration) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	info, err := t.l.streamInfo(ctx)
	switch {
	case err == nil:
		t.absent = time.Time{}
		t.configured(&info.Config)
		err = verify(&info.Config)
	case errors.Is(err, jetstream.ErrStreamNotFound):
		err = t.recreate(ctx, err)
	}
	if err != nil {
		return nil, err
	}
	stored, _, err := t.l.storedEpoch(ctx)
	if err != nil {
		return nil, err
	}
	proved, err := t.proves(ctx)
	if err != nil {
		return nil, err
	}
	switch known, err := t.knows(info, proved && (stored == "" || stored == t.l.epoch())); {
	case err != nil:
		return nil, err
	case !known:
		epoch, err := t.l.nextEpoch(ctx)
		if err != nil {
			return nil, err
		}
		t.renew(epoch, info)
		t.l.purges.forget()
	}
	inbox := nats.NewInbox()
	sub, from, err := t.subscribe(inbox, store.Seq(info.State.LastSeq))
	if err != nil {
		return nil, err
	}
	c := jetstream.ConsumerConfig{
		Name: "hub-" + inbox[strings.LastIndexByte(inbox, '.')+1:], Description: t.l.opts.Name,
		DeliverSubject: inbox, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: uint64(from),
		AckPolicy: jetstream.AckNonePolicy, MaxDeliver: 1, FlowControl: true, IdleHeartbeat: t.l.opts.Times.Beat,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: inactive,
	}
	t.mu.Lock()
	t.consumer = c.Name // detach removes it: the servers may make it though they do not answer
	t.mu.Unlock()
	if _, err := t.l.js.CreatePushConsumer(ctx, t.l.opts.Stream, c); err != nil {
		_ = sub.Unsubscribe() // it may be gone with the connection
		return nil, err
	}
	return info, nil
}

// configured takes over limits of the stream.
func (t *tail) configured(c *jetstream.StreamConfig) {
	t.maxMsgSize.Store(int64(c.MaxMsgSize))
	t.maxBytes.Store(c.MaxBytes)
	b := boundsOf(c)
	t.bounds.Store(&b)
}

// recreate creates the stream if it has been missing for a while. It returns the error of this attempt.
func (t *tail) recreate(ctx context.Context, missing error) error {
	switch {
	case t.absent.IsZero():
		t.absent = time.Now()
	case time.Since(t.absent) > 3*t.l.opts.Times.Beat:
		t.l.opts.Logger.Warn("the stream is gone: it is created again", "stream", t.l.opts.Stream)
		if _, err := ensureStream(ctx, t.l.js, t.l.opts.Stream, t.l.opts.Replicas); err != nil {
			return err
		}
		return errors.New("the stream was created")
	}
	return missing
}

// watchDeletion makes the tail ask again which stream it reads when the servers say that the stream was deleted. Until it has
// done so, it takes no message as received because a server has acknowledged it: another stream may have stored it.
func (t *tail) watchDeletion() error {
	_, err := t.l.nc.Subscribe(deletions+t.l.opts.Stream, func(*nats.Msg) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.endLife()
		t.restart()
	})
	return err
}

// deletions is where the servers report that a stream was deleted; its name follows.
const deletions = "$JS.EVENT.ADVISORY.STREAM.DELETED."

// streamCreated returns when the stream that the tail reads was created.
func (t *tail) streamCreated() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.created
}

// knows reports whether the stream is the one that the log knows, and has everything that the tail has read. A backup may be longer
// than that, but has another epoch, or other messages. It returns errShort while the answer is not certain.
func (t *tail) knows(info *jetstream.StreamInfo, same bool) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.replaced {
		return false, nil
	}
	return t.doubt.settle(info, same && info.Created.Equal(t.created), t.at)
}

// proof distinguishes the stream that the tail has read from an older backup that has become as long before the hubs look. At the positions
// that they have read, such a backup has other records, which were stored later.
type proof struct {
	last    [2]recordID // of the last record, and of the last message: the last record may be a note that is soon replaced
	through store.Seq   // the consumer has delivered everything up to here,
	latest  time.Time   // and nothing that was stored later than this
}

// recordID identifies a record of the stream. The zero value is none.
type recordID struct {
	seq   store.Seq
	by    appendID
	index int
}

// read records what was read last.
func (p *proof) read(r *record) {
	p.last[0] = recordID{r.seq, r.by, r.index}
	if !r.is(isNote) {
		p.last[1] = p.last[0]
	}
}

// delivered records up to where the consumer has delivered the stream, and when a message was stored that it has delivered.
func (p *proof) delivered(through store.Seq, stored time.Time) {
	p.through = max(p.through, through)
	if stored.After(p.latest) { // the clocks of the servers may differ
		p.latest = stored
	}
}

// proves reports whether the stream has what the tail has read last, unless that was removed or replaced since, and up to there nothing that
// was stored later than all that it has read.
func (t *tail) proves(ctx context.Context) (bool, error) {
	t.mu.Lock()
	p := t.proof
	t.mu.Unlock()
	for i, want := range p.last {
		if want.seq == 0 || i > 0 && want == p.last[0] {
			continue
		}
		m, err := t.l.askLeader(ctx, t.l.opts.Stream, request{Seq: want.seq})
		if err != nil {
			return false, err
		}
		var r record
		if m != nil && r.decode(m.Data) == nil && (recordID{want.seq, r.by, r.index}) != want {
			return false, nil
		}
	}
	if p.latest.IsZero() {
		return true, nil
	}
	later := p.latest.Add(1)
	m, err := t.l.askLeader(ctx, t.l.opts.Stream, request{Since: &later, Next: anySubject})
	if err != nil {
		return false, err
	}
	return m == nil || store.Seq(m.Seq) > p.through || m.Time.Before(later), nil
}

// subscribe begins a new life, when the stream ends at a position.
func (t *tail) subscribe(inbox string, end store.Seq) (sub *nats.Subscription, from store.Seq, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.life++
	t.last, t.isCut = 0, false
	if t.at == 0 {
		t.folding = end
	}
	t.heard.Store(time.Now().UnixMilli())
	life := t.life
	sub, err = t.l.nc.Subscribe(inbox, func(m *nats.Msg) { t.receive(life, m) })
	if err != nil {
		return nil, 0, err
	}
	t.sub = sub
	return sub, t.proof.through + 1, sub.SetPendingLimits(-1, -1) // flow control bounds it
}

// detach ends the current life.
func (t *tail) detach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sub == nil {
		return
	}
	t.endLife()
	_ = t.sub.Unsubscribe() // fails if the connection is closed
	// Without an answer: the servers remove a consumer without listener anyway, but later.
	_ = t.l.nc.Publish("$JS.API.CONSUMER.DELETE."+t.l.opts.Stream+"."+t.consumer, nil)
	t.sub = nil
}
