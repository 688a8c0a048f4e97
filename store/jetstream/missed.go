package jetstream

import (
	"cmp"
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

	mu    sync.Mutex    // guards the fields below
	times uint64        // how often it has begun
	known chan struct{} // closed when this hub knows all purges; nil: it does
	turns int           // how often it has tried in vain to find out

	position func() store.Seq // which position this hub has read; nil: none yet
	since    store.Seq        // that position when it began: what is before was heard
}

// init begins for a hub that starts.
func (u *unheard) init() {
	u.wake = make(chan struct{}, 1)
	u.begin()
}

// begin records that purges may be missed from now on.
func (u *unheard) begin() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.times++
	if u.known != nil {
		return
	}
	u.known = make(chan struct{})
	if u.position != nil {
		u.since = u.position()
	}
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

// learnPurges returns when the tail has read marks of all purges that this hub has not heard. If no other hub knows them, it calls check,
// which writes the marks of what is missing.
func (l *Log) learnPurges(ctx context.Context, check func(context.Context) error) error {
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
		switch {
		case err != nil:
			return err
		case told:
			err = patiently(ctx, l.readToEnd)
		default:
			err = check(ctx)
		}
		switch {
		case err == nil:
			l.unheard.end(times)
		case errors.Is(err, errRecounted): // another hub has found out meanwhile
		case errors.Is(err, errRenewed): // what was counted says nothing of the stream that the log has now
		default:
			return err
		}
	}
}

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
	case j.l.unheard.failed() == fewTurns && j.l.tidying.Err() == nil:
		j.l.opts.Logger.Warn("this hub has tried several times to find out what was purged while it was cut off, and goes on: readers of messages that are not in memory wait",
			"groups left", j.found.groups(), "error", err)
	}
	return err
}

const (
	// learnTimeout is how long a comparison may take of a hub that was cut off, and the marks of some groups. Readers may wait for them. An
	// answer may be lost while the servers elect a leader: the next turn goes on.
	learnTimeout = 15 * time.Second

	fewTurns = 5 // after which this hub logs that it has not succeeded yet
)

// finding is what a comparison has found. It is kept until the marks are written, since the hubs may remove messages meanwhile.
type finding struct {
	difference
	times uint64 // how often purges may have been missed then
	epoch string
	left  *purged // the groups that may have lost messages and are not told yet; nil: not known yet
	lost  int     // how many are told, but not logged
}

// groups returns how many groups are not told yet, as far as that is known.
func (f *finding) groups() int {
	if f == nil || f.left == nil {
		return 0
	}
	return len(f.left.newest)
}

// checkRead writes marks if messages are missing that were there when they were last counted. It compares what this hub has read of the
// groups that may have lost some.
func (j *janitor) checkRead(ctx context.Context) error {
	times, _ := j.l.unheard.state()
	for {
		if j.found == nil || j.found.epoch != j.l.epoch() {
			if err := j.find(ctx, times); err != nil || j.found == nil {
				return err
			}
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

// find compares the counts.
func (j *janitor) find(ctx context.Context, times uint64) error {
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	j.found = nil
	was, err := j.l.recallCounts(ctx)
	if err != nil {
		return err
	}
	was = was.of(j.l.epoch())
	d, err := j.l.compare(ctx, was)
	if err == nil && d != nil {
		j.found = &finding{difference: *d, times: times, epoch: was.Epoch}
	}
	return err
}

// tell writes the marks of what is missing, of some groups at a time. If that fails, the next turn goes on with those that are left. Which
// groups they are is found out once: the first marks would look like those of another hub.
func (j *janitor) tell(ctx context.Context, f *finding) error {
	l := j.l
	if err := j.watch(ctx); err != nil { // it tells what the limits of the stream have removed
		return err
	}
	if f.left == nil {
		p, err := l.suspects(&f.difference, l.notes.lossesAfter(f.heard(l))) // also those that another hub has found just now
		if err != nil {
			return err
		}
		f.left = &p
	}
	if len(f.left.newest) > maxMarks {
		return l.tellAll(ctx, f)
	}
	if err := j.tellEach(ctx, f); err != nil {
		return err
	}
	if f.lost > 0 {
		l.opts.Logger.Warn("messages were purged from the stream, not by a hub", "groups", f.lost)
		f.lost = 0 // it is said once, though what follows may fail
	}
	told := l.notes.lossesAfter(f.heard(l))
	for part, gone := range f.gone {
		if gone > 0 && !told[part] { // it is a group that this hub does not know
			_, err := l.markIn(ctx, f.epoch, []keyedMark{f.goneMark()})
			return err
		}
	}
	return nil
}

// heard returns a position after which marks may tell what is missing. Those before tell of purges that this hub has heard.
func (f *finding) heard(l *Log) store.Seq { return max(f.counted, l.unheard.heard()) }

// goneMark returns the mark of groups of which nothing is left: any group may be one.
func (f *finding) goneMark() keyedMark {
	return keyedMark{goneKey, mark{Missing: f.counted, Written: time.Now()}}
}

// tellAll writes a mark of all groups, since there are too many to tell them one by one. It says nothing of what is behind them: readers
// that have all of it get no gap.
func (l *Log) tellAll(ctx context.Context, f *finding) error {
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	var newest store.Seq
	for _, seq := range f.left.newest {
		newest = max(newest, seq)
	}
	list := []keyedMark{{lostKey, mark{Eviction: memory.Eviction{Through: newest}, Written: time.Now()}}}
	if slices.Max(f.left.counts.gone[:]) > 0 { // groups that this hub does not know may have lost later ones
		list = append(list, f.goneMark())
	}
	l.opts.Logger.Warn("messages of many groups were removed from the stream while no hub was connected", "up to", newest)
	_, err := l.markIn(ctx, f.epoch, list)
	return err
}

// tellEach writes the marks of the groups that are not told yet.
func (j *janitor) tellEach(ctx context.Context, f *finding) error {
	if len(f.left.newest) == 0 {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	left, err := j.left(asking, "")
	for err == nil && len(f.left.newest) > 0 {
		err = j.tellSome(ctx, f, left)
	}
	return err
}

// tellSome writes the marks of some groups: those about which the servers answer in time. It fails if there are none.
func (j *janitor) tellSome(ctx context.Context, f *finding, left map[string]uint64) error {
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	began, p := time.Now(), f.left
	var asked []string
	var list []keyedMark
	for _, name := range slices.SortedFunc(maps.Keys(p.newest), byPart) {
		m, err := j.missing(ctx, p, name, left)
		if err != nil && len(asked) == 0 {
			return err
		}
		if err != nil {
			break
		}
		if m != nil {
			list = append(list, groupMark(*m))
		}
		if asked = append(asked, name); len(asked) == marksAtOnce || time.Since(began) > learnTimeout/2 {
			break
		}
	}
	if len(list) > 0 {
		if _, err := j.l.markIn(ctx, f.epoch, list); err != nil {
			return err
		}
	}
	for _, name := range asked {
		delete(p.newest, name)
	}
	f.lost += len(list)
	return nil
}

// byPart orders groups by their parts: if the marks are written in several steps, most parts are told in one.
func byPart(a, b string) int {
	return cmp.Or(cmp.Compare(partOf(escape(a)), partOf(escape(b))), cmp.Compare(a, b))
}

// suspects returns, as a purge, the groups that may have lost messages. A group is certain if this hub has messages of it that the stream lacks.
// If the certain groups, or what another hub has told, explain all that is missing in a part, its other groups have lost nothing. Otherwise
// those with evicted messages may have lost some, too: evicted ones that the stream still has may stand in for them. In a stream with
// limits, which remove evicted messages all the time, only certain groups count.
func (l *Log) suspects(d *difference, told [parts]bool) (p purged, err error) {
	rest := *d
	p = purged{at: time.Now(), counts: &rest}
	l.purgedGroups(&p)
	limited := *l.tail.bounds.Load() != (bounds{})
	lacking := map[string]bool{}
	for name := range p.newest {
		part := partOf(escape(name))
		if d.missing[part] == 0 {
			delete(p.newest, name)
			continue
		}
		n, err := l.lacking(name, d)
		if err != nil {
			return p, err
		}
		rest.missing[part] -= n.counted
		if d.has(l, name) == 0 {
			rest.gone[part] -= n.gone
		}
		lacking[name] = n.messages > 0 || !n.sure
	}
	for name, newest := range p.newest {
		part := partOf(escape(name))
		if lacking[name] || rest.missing[part] > 0 && !told[part] && !limited && l.mem.Floor(name) > 0 {
			p.newest[name] = min(newest, d.asked)
		} else {
			delete(p.newest, name)
		}
	}
	return p, nil
}

// lack is what the stream had not of a group when it was asked, and this hub has. It is about messages that stay.
type lack struct {
	messages int
	counted  int  // how many of them had been counted, at least
	gone     int  // how many of its subjects have lost all that was counted, at least
	sure     bool // this hub knows that no others are lost
}

// add compares messages that this hub has with those that the stream has. At most later of those of the hub are not counted. kept is how
// many counted ones the stream has.
func (n *lack) add(had, has, later, kept int) {
	n.messages += max(had-has, 0)
	lost := max(had-later-kept, 0)
	n.counted += lost
	if lost > 0 && kept == 0 {
		n.gone++
	}
}

// lacking compares what this hub has of a group with what the stream had. A purge removes the oldest messages of a subject. So messages
// that were evicted, but are still in the stream, can stand in for lost ones only if they are of another kind.
func (l *Log) lacking(name string, d *difference) (n lack, err error) {
	had, g, floor := d.has(l, name), l.group(name), l.mem.Floor(name)
	spilled, sure := l.mem.Spilled(name)
	if g.Retained && d.gone[partOf(escape(name))] > 0 && d.left[l.subjects.message(name, retained)] == 0 {
		sure = false // it may be one of those that were evicted, but stay since they are retained
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
	all, later, kept := int(spilled), 0, 0
	for i, kind := range messageKinds[:lastingKinds] {
		subject := l.subjects.message(name, kind)
		left, fresh := int(d.left[subject]), d.noted[l.tail.noted.hash(subject)]
		counted := max(left-fresh, 0)
		if spilled == 0 {
			n.add(lasting[i], left, fresh, counted)
		}
		all, later, kept = all+lasting[i], later+fresh, kept+counted
	}
	if spilled == 0 {
		n.sure = true
		return n, nil
	}
	// Nobody knows the kinds of spilled messages. Together they tell something only if none is evicted that the stream may still have.
	n.add(all, int(had), later, kept)
	n.sure = floor == 0
	return n, nil
}

// lossesAfter returns the parts of groups that have lost messages by a purge of somebody else, as a mark behind a position says.
func (t *noteTable) lossesAfter(pos store.Seq) (list [parts]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, v := range t.notes {
		var m mark
		if name, ok := markedGroup(key); ok && v.at > pos && json.Unmarshal(v.value, &m) == nil && (m.foreign() || m.Missing > 0) {
			list[partOf(escape(name))] = true
		}
	}
	return list
}
