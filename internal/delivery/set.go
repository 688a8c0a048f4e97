package delivery

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// Set holds all streams of a log, divided among shards.
type Set struct {
	log      store.Store
	notified bool
	shards   []*shard
	next     atomic.Uint32
	turns    *turns
	far      func() *turns // for streams that wait for another machine
	gate     gate
	epochs   epochs
	unsent   *copies
	stats    counters
	latency  latencies
}

// NewSet starts the shards, one for each core. They watch the log, unless notified is set: then
// Appended has to be called after each append.
//
// The unsent rests of messages that sockets accepted only in part take at most maxUnsent bytes of memory.
// Beyond that each stream may keep 4 KiB; a stream that needs more ends with the reason Slow.
func NewSet(log store.Store, notified bool, maxUnsent int64) *Set {
	n := runtime.GOMAXPROCS(0)
	s := &Set{log: log, notified: notified, unsent: newCopies(maxUnsent)}
	s.latency.log, _ = log.(store.Dated)
	s.turns = newTurns(2*n, &s.gate)
	s.far = sync.OnceValue(func() *turns { return newTurns(2*n, &s.gate) })
	for range n {
		s.shards = append(s.shards, newShard(s))
	}
	if p, ok := log.(store.Paced); ok {
		p.Pace(s.Hold)
	}
	return s
}

// New returns a stream. Run starts it.
func (s *Set) New(c Config) *Stream {
	st := &Stream{
		shard: s.shards[int(s.next.Add(1))%len(s.shards)],
		done:  c.Done, filters: c.Filters, uid: c.UID, view: c.View, pos: c.Start.After,
		heartbeat: c.Heartbeat, coalesce: s.coalesce(c.Filters), live: c.Start.Live, dueIndex: -1, allIndex: -1,
	}
	if c.Start.Epoch == "" {
		_, newest := s.log.Bounds()
		c.Start.Epoch = newest.Epoch
	}
	st.epoch.Store(s.epochs.number(c.Start.Epoch))
	st.view.codec = c.Codec
	st.opening = &opening{held: c.Start.Held, unknown: c.Start.Unknown}
	if c.Start.Retained {
		st.opening.retained = span{set: c.Filters, to: st.pos}
	}
	st.mark.Store(uint64(st.pos))
	wants := c.Filters
	st.wants.Store(&wants)
	return st
}

// coalesce returns the shortest time between two writes that the policies of the filters demand.
func (s *Set) coalesce(filters group.Set) (d time.Duration) {
	for i, f := range filters {
		if c := s.log.Policy(f).Coalesce; i == 0 || c < d {
			d = c
		}
	}
	return d
}

// Close ends all streams with a last event that gives the reason, and returns when all have ended.
func (s *Set) Close(why Reason) {
	for _, sh := range s.shards {
		sh.close(why)
	}
	for _, sh := range s.shards {
		<-sh.done
	}
}

// groupsAtOnce is how many groups a shard counts the streams of while it does nothing else.
const groupsAtOnce = 64

// Listeners returns, for each group, how many streams get a message that is published now. It counts others, filters of
// clients that have no stream at the moment, as one stream each. With more groups than groupsAtOnce, a stream that parks or
// begins to follow meanwhile may be missed, or count twice.
func (s *Set) Listeners(groups []string, others []group.Set) []int {
	n := make([]int, len(groups))
	for _, sh := range s.shards {
		sh.ask(func() { others = sh.following(others); sh.count(groups[:min(len(groups), groupsAtOnce)], n) })
		for at := groupsAtOnce; at < len(groups); at += groupsAtOnce {
			sh.ask(func() { sh.count(groups[at:min(len(groups), at+groupsAtOnce)], n[at:]) })
		}
	}
	var x index
	for _, filters := range others {
		x.add(&Stream{filters: filters})
	}
	for i, g := range groups {
		n[i] += x.count(g)
	}
	return n
}

// count adds the parked streams of each group to n.
func (sh *shard) count(groups []string, n []int) {
	for i, g := range groups {
		n[i] += sh.index.count(g)
	}
}

// Stats returns the counters.
func (s *Set) Stats() Stats {
	return Stats{
		Messages: s.stats.messages.Load(), Coded: s.stats.coded.Load(), Bytes: s.stats.bytes.Load(), Writes: s.stats.writes.Load(),
		ShortWrites: s.stats.shortWrites.Load(), Held: s.stats.held.Load(), Unsent: s.unsent.size.Load(),
		Gaps: s.stats.gaps.Load(), Holding: s.stats.holding.Load(), Full: s.stats.full.Load(),
	}
}

// Stats counts deliveries since the start.
type Stats struct {
	Messages, Bytes, Writes uint64
	Coded                   uint64 // those of the messages that codecs have rendered
	ShortWrites             uint64 // writes that a socket accepted only in part
	Held                    uint64 // times that a publisher had to wait
	Gaps                    uint64 // gap events
	Unsent                  int64  // bytes now kept of messages that sockets accepted only in part
	Holding                 int64  // publishers that wait now
	Full                    int64  // streams that wait now for their sockets to accept the rest of a message
}

type counters struct {
	messages, coded, bytes, writes, shortWrites, held, gaps atomic.Uint64
	holding, full                                           atomic.Int64
}

func (c *counters) wrote(n, messages int) {
	if n > 0 {
		c.messages.Add(uint64(messages))
		c.bytes.Add(uint64(n))
		c.writes.Add(1)
	}
}
