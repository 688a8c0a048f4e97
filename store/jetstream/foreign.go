package jetstream

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/watchbox-go/watchbox/store"
)

// apiCalls is where the servers report each call of their API to the clients of the account.
const apiCalls = "$JS.EVENT.ADVISORY.API"

// inboxes returns how the subjects of replies to the stream's hubs begin, by which the others know their requests.
func (l *Log) inboxes() string { return "_INBOX.watchbox." + l.opts.Stream }

// purged is a purge of the stream by somebody else.
type purged struct {
	Filter string    // a subject with wildcards; "" for all
	Seq    store.Seq // messages before this one; 0: all
	Keep   uint64    // or all but so many; 0: none

	at     time.Time            // when this hub was told
	pos    store.Seq            // what it had read then
	epoch  string               // of the positions
	newest map[string]store.Seq // of the groups that match, the newest message then
	marked bool                 // by this hub
	counts *difference          // what the counts say is missing, if this hub was not told of the purge: Filter, Seq and Keep are not known then
}

// purges are those of the last minute. Until their marks arrive, readers of the stream need them to know that
// messages are missing.
type purges struct {
	wake   chan struct{} // a purge is to be marked
	groups func(*purged) // finds out what a purge may have removed

	mu      sync.Mutex // guards what follows
	list    []purged
	asked   []purged                 // requests of the last minute that no purge was told for
	late    time.Time                // requests that arrive before this may be for a purge that was told
	owed    bool                     // for none of the purges that were told a request is known
	awaited map[string]chan struct{} // by request, closed when the leader of the stream has refused it
}

const (
	keepPurges = time.Minute
	maxPurges  = 64 // more at once count as one of everything
)

// request records that somebody has asked for a purge. The servers may tell before that it was carried out.
func (p *purges) request(x purged) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x.at.Before(p.late) {
		p.owed = false
		p.add(x)
		return
	}
	p.asked = appendRecent(p.asked, x)
}

// happened records that a purge was carried out, which the servers do not describe. All requests that are known may be the one for it, and
// so may those that arrive a moment later: others may have been refused, or have purged nothing. The stream tells what is missing.
func (p *purges) happened() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.late = time.Now().Add(requestLate)
	p.owed = len(p.asked) == 0
	for _, x := range p.asked {
		p.add(x)
	}
	p.asked = nil
}

// described records that a purge was carried out.
func (p *purges) described(x purged) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.add(x)
	p.asked = slices.DeleteFunc(p.asked, func(old purged) bool { return old.Filter == x.Filter })
}

// owes reports whether the request for a purge may still arrive. If none has, everything may have been purged.
func (p *purges) owes() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Before(p.late) {
		return true
	}
	if p.owed {
		p.owed = false
		p.add(purged{at: now})
	}
	return false
}

// appendRecent appends a purge to those of the last minute.
func appendRecent(list []purged, x purged) []purged {
	list = slices.DeleteFunc(list, func(old purged) bool { return x.at.Sub(old.at) > keepPurges })
	if len(list) >= maxPurges {
		list = list[:0]
		x.Filter, x.Seq, x.Keep = "", 0, 0
	}
	return append(list, x)
}

// add adds a purge. p.mu is held.
func (p *purges) add(x purged) {
	p.list = appendRecent(p.list, x)
	p.groups(&p.list[len(p.list)-1])
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// hearPurges waits until this hub knows of each purge that the leader of the stream has carried out. It sends a request that the
// leader refuses. The servers tell of that as of a purge, and in order.
func (l *Log) hearPurges(ctx context.Context) error {
	request := fmt.Sprintf(`{"filter":%q,"seq":1,"keep":1}`, l.subjects.note(rand.Text()))
	done := make(chan struct{})
	l.purges.await(request, done)
	defer l.purges.await(request, nil)
	if err := l.nc.Publish("$JS.API.STREAM.PURGE."+l.opts.Stream, []byte(request)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	for l.purges.owes() && ctx.Err() == nil {
		pause(ctx, requestLate/100)
	}
	return nil
}

// requestLate is how long after a purge the request for it may arrive.
const requestLate = time.Second

// await sets the channel to close when a request is refused; nil: none.
func (p *purges) await(request string, done chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done == nil {
		delete(p.awaited, request)
		return
	}
	if p.awaited == nil {
		p.awaited = map[string]chan struct{}{}
	}
	p.awaited[request] = done
}

// refused is called with each request that a server has refused. A server that does not lead the stream gives other reasons than its
// leader.
func (p *purges) refused(request, response string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done := p.awaited[request]; done != nil && strings.Contains(response, badRequest) {
		delete(p.awaited, request)
		close(done)
	}
}

// badRequest is the error of a purge up to a seq that has to keep messages, too.
const badRequest = `"err_code":10003`

// next returns a purge that is older than an age and that this hub has not marked.
func (p *purges) next(age time.Duration) (purged, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.list {
		if !x.marked && time.Since(x.at) >= age {
			x.newest = maps.Clone(x.newest)
			return x, true
		}
	}
	return purged{}, false
}

// done records that a purge is marked. It has removed nothing from the groups that are not among lost.
func (p *purges) done(x purged, lost map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.list {
		if p.list[i].at.Equal(x.at) && p.list[i].Filter == x.Filter {
			p.list[i].marked = true
			maps.DeleteFunc(p.list[i].newest, func(name string, _ store.Seq) bool { return !lost[name] })
		}
	}
}

// forget forgets the purges of a stream that was replaced.
func (p *purges) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list, p.asked, p.owed = nil, nil, false
}

// lost returns the newest message after a position, up to another one, that a purge may have removed from a group that s
// selects and of which no mark tells yet; 0: none.
func (p *purges) lost(s store.Selector, after, through store.Seq, floor func(group string) store.Seq) (lost store.Seq) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.list {
		for name, newest := range x.newest {
			if seq := min(newest, through); seq > max(after, lost) && s.Match(name) && seq > floor(name) {
				lost = seq
			}
		}
	}
	return lost
}

// clientName is the name of a hub's connection, by which the others know its purges: its signs of life tell the number at its end.
func (l *Log) clientName() string {
	return fmt.Sprintf("%s%s %016x", l.namePrefix(), l.opts.Name, l.self)
}

// namePrefix is what the names of all hubs' connections begin with.
func (l *Log) namePrefix() string { return "watchbox " + l.opts.Stream + " " }

// ownsClient reports whether a connection with a name belongs to a hub.
func (h *hubs) ownsClient(name string) bool {
	number, err := strconv.ParseUint(name[strings.LastIndexByte(name, ' ')+1:], 16, 64)
	if err != nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if number == h.l.self {
		return true
	}
	for _, p := range h.others {
		if p.client == number {
			return true
		}
	}
	return false
}

// watchPurges receives the purges that are not made by a hub. Servers in a cluster tell of them without what was asked for, so
// that the hub also hears the requests, which come before. It needs those of hubs, too: see purgedNote.
func (l *Log) watchPurges() error {
	l.purges.wake, l.purges.groups = make(chan struct{}, 1), l.purgedGroups
	subject := "$JS.API.STREAM.PURGE." + l.opts.Stream
	_, err := l.nc.Subscribe(subject, func(m *nats.Msg) {
		switch p, ok := parsePurge(m.Data); {
		case !ok:
		case !strings.HasPrefix(m.Reply, l.inboxes()+"."):
			l.purges.request(p)
		case p.Seq > 0:
			l.tail.heardPurge(p.Filter, p.Seq-1)
		}
	})
	if err != nil {
		return err
	}
	_, err = l.nc.Subscribe(apiCalls, func(m *nats.Msg) {
		var call struct {
			Client   struct{ Name string }
			Subject  string
			Request  string
			Response string
		}
		if json.Unmarshal(m.Data, &call) != nil || call.Subject != subject {
			return
		}
		if strings.Contains(call.Response, `"error"`) {
			l.purges.refused(call.Request, call.Response)
			return
		}
		switch name := call.Client.Name; {
		case l.hubs.ownsClient(name), strings.Contains(call.Response, `"purged":0}`):
			return // a hub that is not known yet has removed nothing
		case !l.unheard.knows() && strings.HasPrefix(name, l.namePrefix()):
			return // this hub starts or was cut off, and does not know the others
		}
		if call.Request == "" {
			l.purges.happened()
		} else if p, ok := parsePurge([]byte(call.Request)); ok {
			l.purges.described(p)
		}
	})
	return err
}

// parsePurge parses a request. ok is false if it purges nothing, as those by which a hub asks for its permission.
func parsePurge(request []byte) (p purged, ok bool) {
	if len(request) > 0 && json.Unmarshal(request, &p) != nil {
		p = purged{} // everything, rather than nothing
	}
	p.at = time.Now()
	return p, p.Seq != 1
}

// purgedGroups finds out what a purge may have removed that was not evicted, as far as this hub has read the stream.
func (l *Log) purgedGroups(p *purged) {
	p.newest, p.pos, p.epoch = map[string]store.Seq{}, l.tail.position(), l.epoch()
	for g := range l.purgeable(p.Filter) {
		through := g.Newest
		if p.Seq > 0 {
			through = min(through, p.Seq-1)
		}
		messages, retain := l.purgeMatches(p, g.Group, false), l.purgeMatches(p, g.Group, true)
		kept := retain && g.Retained && (p.Seq == 0 || l.retainedSeq(g.Group) < p.Seq)
		if (messages || retain) && through > l.mem.Floor(g.Group) || kept {
			p.newest[g.Group] = through
		}
	}
}

// purgeable yields the groups that a purge with a filter may concern: the others need not be looked at.
func (l *Log) purgeable(filter string) iter.Seq[store.GroupInfo] {
	rest, isMessage := l.subjects.group(filter)
	name, ok := unescape(rest)
	if !isMessage || !ok {
		return store.EachGroup(l.mem, "")
	}
	return func(yield func(store.GroupInfo) bool) { yield(l.group(name)) }
}

func (l *Log) purgeMatches(p *purged, group string, retain bool) bool {
	list := []string{messages, expiring}
	if retain {
		list = []string{retained, expiringRetained}
	}
	return slices.ContainsFunc(list, func(kind string) bool { return subjectMatches(p.Filter, l.subjects.message(group, kind)) })
}

// subjectMatches reports whether a subject with wildcards matches a subject.
func subjectMatches(filter, subject string) bool {
	for filter != "" {
		f, restF, moreF := strings.Cut(filter, ".")
		s, restS, moreS := strings.Cut(subject, ".")
		switch {
		case f == ">":
			return true
		case f != "*" && f != s || moreF != moreS && restF != ">" || moreF && !moreS:
			return false
		case !moreF:
			return true
		}
		filter, subject = restF, restS
	}
	return true
}
