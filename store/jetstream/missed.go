package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// A hub hears of the purges by somebody else when they are carried out, see watchPurges. It has to find out what it has not heard, since
// it was not running or was cut off from the servers. A hub that has heard everything marks the purges that it knows when it
// is asked to. If there is none, the counts in the bucket tell what is missing. Until then a hub that starts is not ready. One that
// runs does not know why the stream lacks a message: it reads from memory only, counts nothing, and leaves what policies do not keep.

// unheard says whether somebody may have purged messages without this hub having heard of it. The zero value says no.
type unheard struct {
	wake chan struct{} // the janitor has to find out

	mu      sync.Mutex    // guards the fields below
	times   uint64        // how often it has begun
	known   chan struct{} // closed when this hub knows all purges; nil: it does
	turns   int           // how often it has tried in vain to find out
	endWork func()        // ends what the janitor does: the servers may not have received a request, and would not answer

	position func() store.Seq // which position this hub has read; nil: none yet
	since    store.Seq        // that position when it began: what is before was heard
}

// init begins for a hub that starts.
func (u *unheard) init() {
	u.wake = make(chan struct{}, 1)
	u.begin()
}

// begin records that purges may be missed from now on.
func (u *unheard) begin() { u.miss(false) }

// cut is begin for a hub that has lost its connection. It ends the work of the janitor also if it has begun before, so that the
// janitor does not wait for answers to what it has asked to find out.
func (u *unheard) cut() { u.miss(true) }

func (u *unheard) miss(isCut bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.times++
	begins := u.known == nil
	if begins {
		u.known = make(chan struct{})
		if u.position != nil {
			u.since = u.position()
		}
	}
	if (begins || isCut) && u.endWork != nil {
		u.endWork()
	}
}

// ends sets what ends the work of the janitor.
func (u *unheard) ends(endWork func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.endWork = endWork
}

// follow lets begin note how far this hub has read.
func (u *unheard) follow(position func() store.Seq) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.position = position
}

// heard returns a position before which this hub has heard all purges, if it does not know all of them.
func (u *unheard) heard() store.Seq {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.since
}

// failed records that this hub has tried in vain to find out, and returns how often it has.
func (u *unheard) failed() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.turns++
	return u.turns
}

// tries returns how often this hub has tried in vain to find out.
func (u *unheard) tries() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.turns
}

// end records that all purges are known, unless it has begun again since state returned times.
func (u *unheard) end(times uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.times == times && u.known != nil {
		close(u.known)
		u.known, u.turns = nil, 0
	}
}

// state returns how often it has begun, and whether all purges are known.
func (u *unheard) state() (times uint64, known bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.times, u.known == nil
}

func (u *unheard) knows() bool {
	_, known := u.state()
	return known
}

// look makes the janitor find out.
func (u *unheard) look() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// wait waits until all purges are known.
func (u *unheard) wait(ctx context.Context) error {
	u.mu.Lock()
	known := u.known
	u.mu.Unlock()
	if known == nil {
		return nil
	}
	select {
	case <-known:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// learnPurges returns when the tail has read marks of all purges that this hub has not heard. It calls check, which writes the marks of what
// is missing, unless another hub knows them and has told.
func (l *Log) learnPurges(ctx context.Context, check func(ctx context.Context, told bool) error) error {
	l.unheard.follow(l.tail.position)
	for {
		times, known := l.unheard.state()
		if known {
			return nil
		}
		err := patiently(ctx, l.hearPurges) // it hears of all later ones
		told := false
		if err == nil {
			told, err = l.askToMark(ctx)
		}
		if err == nil && told {
			err = patiently(ctx, l.readToEnd)
		}
		if err == nil {
			err = check(ctx, told)
		}
		switch {
		case err == nil:
			l.unheard.end(times)
		case !outdated(err):
			return err
		}
	}
}

// outdated reports whether the counts that were compared say nothing any more: another hub has counted or is about to remove messages, or the log
// has another stream.
func outdated(err error) bool { return errors.Is(err, errRecounted) || errors.Is(err, errRenewed) }

// What a hub answers that is asked to mark the purges that it knows: first that it does so, and then that they are marked.
const (
	answerMarking = "marking"
	answerMarked  = "marked"
)

// purges returns the subject with which the others are asked.
func (h *hubs) purges() string { return h.signs + ".purges" }

// askToMark asks the other hubs to mark the purges that they know. It reports whether one has done so that knows all. Hubs
// that are paused do not answer, and those that do not know all purges themselves do not either.
func (l *Log) askToMark(ctx context.Context) (told bool, err error) {
	inbox := nats.NewInbox()
	sub, err := l.nc.SubscribeSync(inbox)
	if err != nil {
		return false, err
	}
	defer func() { _ = sub.Unsubscribe() }() // it fails if the connection is closed
	if err := l.nc.PublishRequest(l.hubs.purges(), inbox, nil); err != nil {
		return false, err
	}
	for patience := answerTimeout; ; patience = startPatience {
		switch answer, err := nextAnswer(ctx, sub, patience); {
		case err != nil || answer == "":
			return false, err
		case answer == answerMarked:
			return true, nil
		}
	}
}

// nextAnswer returns what another hub answers; "": none does.
func nextAnswer(ctx context.Context, sub *nats.Subscription, timeout time.Duration) (string, error) {
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m, err := sub.NextMsgWithContext(waiting)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return "", nil
	case errors.Is(err, context.DeadlineExceeded):
		return "", ctx.Err()
	case err != nil:
		return "", err
	}
	return string(m.Data), nil
}

// tellPurges answers a hub that asks for the purges that this one knows.
func (l *Log) tellPurges(m *nats.Msg) {
	times, known := l.unheard.state()
	if !known || l.leaving.Load() {
		return
	}
	_ = m.Respond([]byte(answerMarking)) // without a connection the other one does not wait
	l.running.Go(func() {
		err := patiently(l.ctx, func(ctx context.Context) error {
			if err := l.hearPurges(ctx); err != nil { // it may have been told of a purge that this hub has not
				return err
			}
			return (&janitor{l: l}).markOlder(ctx, 0) // of a janitor this needs only the log
		})
		if now, known := l.unheard.state(); err == nil && known && now == times {
			_ = m.Respond([]byte(answerMarked))
		}
	})
}

// learn finds out which purges this hub has missed while it was cut off.
func (j *janitor) learn(ctx context.Context) error {
	err := j.l.learnPurges(ctx, j.checkRead)
	switch {
	case err == nil:
		j.found = nil // another hub may have told it
	case errors.Is(ctx.Err(), context.Canceled): // cut off again, or closed
	case j.l.unheard.failed() == fewTurns:
		j.l.opts.Logger.Warn("this hub has tried several times to find out what was purged while it was cut off, and goes on: readers of messages that are not in memory wait",
			"groups left", j.found.left(), "error", err)
	}
	return err
}

const (
	// learnTimeout is how long a comparison may take of a hub that was cut off, and the marks of some groups. Readers may wait for them. An
	// answer may be lost while the servers elect a leader: the next turn goes on.
	learnTimeout = 15 * time.Second

	fewTurns = 5 // after which this hub logs that it has not succeeded yet
)

// checkRead writes marks if messages are missing that were there when they were last counted, unless another hub has told. It compares what
// this hub has read with the stream, of the groups that may have lost some.
func (j *janitor) checkRead(ctx context.Context, told bool) error {
	times, _ := j.l.unheard.state()
	for {
		if j.found == nil || j.found.epoch != j.l.epoch() {
			if err := j.find(ctx, told); err != nil || j.found == nil {
				return err
			}
			j.found.times = times
		}
		if err := j.tell(ctx, j.found); err != nil {
			return err
		}
		since := j.found.times
		if j.found = nil; since == times {
			return nil
		}
	}
}

// find compares the counts, unless another hub has told what is missing. One that starts does not know which messages those were: then this
// hub compares what it has.
func (j *janitor) find(ctx context.Context, told bool) error {
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	j.found = nil
	l := j.l
	was := &counts{Epoch: l.epoch()}
	if !told {
		c, err := l.recallCounts(ctx)
		if err != nil {
			return err
		}
		was = c.of(was.Epoch)
	}
	another := func() bool { return l.notes.finished() > l.unheard.heard() }
	if was.At == 0 && !another() {
		return nil
	}
	d, err := l.compare(ctx, was)
	if err == nil && (another() || d.doubtful()) {
		j.found = &telling{difference: *d, everywhere: another()}
	}
	return err
}

// tell writes the marks of what is missing. If that fails, the next turn goes on with the groups that are left.
func (j *janitor) tell(ctx context.Context, t *telling) error {
	if t.markOf == nil {
		if err := j.suspect(ctx, t); err != nil {
			return err
		}
	}
	err := j.l.tellEach(ctx, t, func(ctx context.Context, step func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, learnTimeout)
		defer cancel()
		return step(ctx)
	})
	if err == nil && t.told > 0 {
		j.l.opts.Logger.Warn("messages were purged from the stream, not by a hub", "groups", t.told)
	}
	return err
}

// suspect finds out which groups a telling is about.
func (j *janitor) suspect(ctx context.Context, t *telling) error {
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	l := j.l
	if err := j.watch(ctx); err != nil { // it tells what the limits of the stream have removed
		return err
	}
	told := l.notes.lossesAfter(max(t.counted, l.unheard.heard())) // also those that another hub has told just now
	p, err := l.suspects(t, told)
	if err != nil {
		return err
	}
	left, err := j.left(ctx, "")
	if err != nil {
		return err
	}
	t.groups = slices.SortedFunc(maps.Keys(p.newest), byPart)
	var newest store.Seq
	for _, seq := range p.newest {
		newest = max(newest, seq)
	}
	if t.limit(maxMarks, newest) {
		t.gone = p.counts.gone
		l.opts.Logger.Warn("messages of many groups were removed from the stream while no hub was connected", "up to", newest)
	}
	for part, ok := range told {
		if ok {
			t.gone[part] = 0
		}
	}
	t.markOf = func(ctx context.Context, name string) (*mark, error) { return j.missing(ctx, &p, name, left) }
	return nil
}

// suspects returns, as a purge, the groups that may have lost messages. The stream lacks messages of them that this hub has. Or their part has lost
// some, and this hub does not know whether they are of these groups.
func (l *Log) suspects(t *telling, told [parts]bool) (p purged, err error) {
	d, rest := &t.difference, t.difference
	p = purged{at: time.Now(), counts: &rest}
	t.explains = map[string]int{}
	l.purgedGroups(&p)
	for name, newest := range p.newest {
		part := partOf(escape(name))
		if d.missing[part] == 0 && !d.unsure[part] && !t.everywhere {
			delete(p.newest, name)
			continue
		}
		n, err := l.lacking(name, d)
		if err != nil {
			return p, err
		}
		if d.has(l, name) == 0 {
			rest.gone[part] -= n.gone
		}
		if n.some || !n.sure && (d.missing[part] > 0 || told[part]) {
			p.newest[name] = min(newest, d.asked)
			if t.explains[name] = n.gone; n.gone == 0 && d.has(l, name) == 0 { // there was one of its kinds, at least
				t.explains[name] = 1
			}
		} else {
			delete(p.newest, name)
		}
	}
	return p, nil
}

// lack is what the stream had not of a group when it was asked, and this hub has. It is about messages that stay.
type lack struct {
	some bool // it lacks messages
	gone int  // how many of its subjects have lost all that was counted, at least
	sure bool // this hub knows that no others are lost
}

// add compares messages that this hub has with those that the stream has. At most later of those of the hub are not counted. kept is how
// many counted ones the stream has.
func (n *lack) add(had, has, later, kept int) {
	n.some = n.some || had > has
	if had > later && kept == 0 {
		n.gone++
	}
}

// lacking compares what this hub has of a group with what the stream had. A purge removes the oldest messages of a subject. So messages
// that were evicted, but are still in the stream, can stand in for lost ones only if they are of another kind.
func (l *Log) lacking(name string, d *difference) (n lack, err error) {
	had, g, floor := d.has(l, name), l.group(name), l.mem.Floor(name)
	spill, sure := l.mem.Spilled(name)
	if g.Retained && d.left[l.subjects.message(name, retained)] == 0 {
		_, kind := l.retainedOf(name)
		n.some = messageKinds[kind] == retained // it may be one of those that were evicted, but stay since they are retained
	}
	if !sure || floor == 0 && had >= g.Messages { // these are not fewer than those that stay
		n.sure = sure
		return n, nil
	}
	q := store.Query{Select: exactly(name), After: floor, Through: d.asked}
	if q.After = max(q.After, l.mem.Horizon(q.Select, q.After)); q.After > q.Through {
		return n, nil // messages may be spilled that were stored after the stream was asked
	}
	var lasting [lastingKinds]int
	for b := (&store.Batch{Buf: make([]byte, 0, 64<<10)}); q.After < q.Through; q.After = b.Next {
		err := l.mem.Read(q, b)
		if errors.As(err, new(*memory.SpilledError)) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		for _, f := range b.Frames {
			if kind := kindIndex(f.Flags); kind < lastingKinds {
				lasting[kind]++
			}
		}
		if b.Next <= q.After {
			break
		}
	}
	all, later, kept := int(spill.Messages), 0, 0
	for i, kind := range messageKinds[:lastingKinds] {
		subject := l.subjects.message(name, kind)
		left, fresh := int(d.left[subject]), d.noted[l.tail.noted.hash(subject)]
		counted := max(left-fresh, 0)
		if spill.Messages == 0 {
			n.add(lasting[i], left, fresh, counted)
		}
		all, later, kept = all+lasting[i], later+fresh, kept+counted
	}
	if spill.Messages == 0 {
		n.sure = true
		return n, nil
	}
	// Nobody knows the kinds of spilled messages. Together they tell something only if none is evicted that the stream may still have.
	n.add(all, int(had), later, kept)
	n.sure = floor == 0
	return n, nil
}

// finished returns the position up to which other hubs have told all that they had found missing.
func (t *noteTable) finished() store.Seq {
	v, _ := t.get(toldKey)
	return v.at
}

// lossesAfter returns the parts of groups that have lost messages by a purge of somebody else, as a mark behind a position says. It leaves out
// the marks of hubs that may not have told everything.
func (t *noteTable) lossesAfter(pos store.Seq) (list [parts]bool) {
	end := t.finished()
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, v := range t.notes {
		var m mark
		if name, ok := markedGroup(key); ok && v.at > pos && v.at <= end && json.Unmarshal(v.value, &m) == nil && (m.foreign() || m.Missing > 0) {
			list[partOf(escape(name))] = true
		}
	}
	return list
}
