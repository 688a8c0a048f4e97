package storetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// randomTests compare random operations with the model. If one fails, rapid prints the seed and the
// shortest failing list of operations that it found.
var randomTests = []test{
	{"random operations agree with a slice, 6 groups, messages of 1 to 2000 bytes",
		random(Options{}, 5)},
	{"random operations agree with a slice, 6 groups that keep 10 messages",
		random(Options{Server: store.Policy{MaxMessages: 10}}, 20)},
	{"random operations agree with a slice, compressed, bursts of 60 messages",
		random(Options{Server: store.Policy{Compress: store.Yes}}, 60)},
	{"random operations lose nothing without a gap, bursts of 300 kB in 1 MiB",
		random(Options{MaxMemory: 1 << 20}, 300)},
}

var (
	randomGroups  = []string{"a", "a/b", "a/b/c", "d", "d/b", "$sys/x"}
	randomFilters = append([]string{"#", "+", "a/+", "a/#", "+/b", "+/#", "a/+/c", "+/b/#", "$sys/#", "none", "none/#"},
		randomGroups...)
)

// machine applies the same operations to a store and to the model.
type machine struct {
	log    *log
	model  *model
	burst  int           // the most messages appended by one operation
	ago    time.Duration // messages were sent this long ago
	evicts bool          // the store also evicts for memory; the model learns from Groups what
}

func random(o Options, burst int) func(e *env) {
	return func(e *env) {
		rapid.Check(e.T, func(t *rapid.T) {
			s := e.open(e.T, o)
			l := newLog(s, t)
			m := &machine{
				log: l, model: newModel(l.epoch(), o.Server), burst: burst,
				ago: rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "ago"),
			}
			_, m.model.spills = s.(store.Shared)
			m.evicts = o.MaxMemory > 0 && !m.model.spills
			if m.model.spills {
				m.model.minRead = 1
			}
			t.Repeat(map[string]func(*rapid.T){
				"append": m.append, "append more": m.append, "retain": m.retain, "policy": m.policy,
				"purge": m.purge, "read": m.read, "read more": m.read, "follow": m.follow,
				"retained": m.readRetained, "find last": m.findLast, "find since": m.findSince,
				"": m.check,
			})
			_ = s.Close() // unless the test failed: Close may hang
		})
	}
}

// use makes checks fail the running operation.
func (m *machine) use(t *rapid.T) *log {
	m.log.t = t
	return m.log
}

// append sends a burst in appends of 1 to 5 entries. It draws only one seed for their content, since
// a draw per message would take longer than the test.
func (m *machine) append(t *rapid.T) {
	l := m.use(t)
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	names := rapid.SliceOfN(rapid.SampledFrom(randomGroups), 1, 3).Draw(t, "groups")
	size := rapid.IntRange(1, 2000).Draw(t, "size")
	for left := rapid.IntRange(1, m.burst).Draw(t, "messages"); left > 0; {
		list := make([]*store.Message, min(left, 1+r.IntN(5)))
		left -= len(list)
		for i := range list {
			list[i] = m.message(names[r.IntN(len(names))], r, 1+r.IntN(size))
		}
		if err := m.model.add(l, list); err != nil && !m.evicts {
			t.Fatal(err)
		}
	}
}

func (m *machine) message(name string, r *rand.Rand, size int) *store.Message {
	msg := ago(m.ago, name, fmt.Sprint(len(m.model.msgs), strings.Repeat(string(rune('a'+r.IntN(26))), size)))
	if r.IntN(4) == 0 {
		msg.Event = "alarm"
	}
	if r.IntN(4) == 0 {
		msg.UID = "11111111-2222-5333-8444-555555555555"
	}
	if r.IntN(4) == 0 {
		msg.Meta = [][2]string{{"name", "value"}, {"name", msg.Event}}
	}
	return msg
}

func (m *machine) retain(t *rapid.T) {
	msg := ago(m.ago, rapid.SampledFrom(randomGroups).Draw(t, "group"), "retained")
	msg.Retain, msg.Clear = true, rapid.Bool().Draw(t, "clear")
	if err := m.model.add(m.use(t), []*store.Message{msg}); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) policy(t *rapid.T) {
	f := filters(rapid.SampledFrom(randomFilters).Draw(t, "filter"))[0]
	p := store.Policy{
		MaxMessages: rapid.SampledFrom([]int64{0, 0, 1, 3, 20, store.Unbounded}).Draw(t, "max messages"),
		MaxBytes:    rapid.SampledFrom([]int64{0, 0, 200, 5000, 20_000, store.Unbounded}).Draw(t, "max bytes"),
		Compress:    rapid.SampledFrom([]store.Choice{store.Inherit, store.Yes, store.No}).Draw(t, "compress"),
	}
	if err := m.use(t).SetPolicy(f, p); err != nil {
		t.Fatal(err)
	}
	m.model.setPolicy(f, p)
}

func (m *machine) purge(t *rapid.T) {
	name := rapid.SampledFrom(randomGroups).Draw(t, "group")
	if err := m.use(t).Purge(name); err != nil {
		t.Fatal(err)
	}
	m.model.purge(name)
}

func drawFilters(t *rapid.T) group.Set {
	list := rapid.SliceOfN(rapid.SampledFrom(randomFilters), 1, 3).Draw(t, "filters")
	return filters(strings.Join(list, " "))
}

// seq draws the position of a message, or the one before the message after it.
func (m *machine) seq(t *rapid.T, label string) store.Seq {
	n := rapid.IntRange(0, len(m.model.msgs)).Draw(t, label)
	if n < len(m.model.msgs) && rapid.Bool().Draw(t, "before the next") {
		return m.model.msgs[n].Seq - 1
	}
	return m.log.at(n)
}

func drawRoom(t *rapid.T) int {
	return rapid.SampledFrom([]int{0, 300, 3000, 30_000, 4 << 20}).Draw(t, "room")
}

func (m *machine) query(t *rapid.T) store.Query {
	q := store.Query{Select: drawFilters(t), After: m.seq(t, "after")}
	if rapid.Bool().Draw(t, "bounded") {
		q.Through = m.seq(t, "through")
	}
	return q
}

func (m *machine) read(t *rapid.T) {
	q := m.query(t)
	if len(m.model.reported) > 0 && rapid.Bool().Draw(t, "reported") {
		q.Reported = rapid.SampledFrom(slices.Sorted(maps.Keys(m.model.reported))).Draw(t, "of")
	}
	m.model.read(m.use(t), q, drawRoom(t))
}

func (m *machine) readRetained(t *rapid.T) {
	q := m.query(t)
	q.Retained = true
	m.model.read(m.use(t), q, drawRoom(t))
}

func (m *machine) follow(t *rapid.T) {
	set, room := drawFilters(t), max(drawRoom(t), 3000)
	m.model.readAll(m.use(t), set, room)
}

func (m *machine) findLast(t *rapid.T) {
	l, set, n := m.use(t), drawFilters(t), rapid.IntRange(1, 30).Draw(t, "last")
	held := m.model.of(set, 0, m.model.newest())
	pos := l.find(set, store.Start{Last: n})
	if got := len(m.model.of(set, pos, m.model.newest())); got != min(n, len(held)) {
		t.Fatalf("last %d of %v: %d are after %d, of %d held", n, set, got, pos, len(held))
	}
}

// findSince finds the time of some message. All messages of that time or later must follow the position,
// and no older one. A gap must follow if and only if a message of that time or later was evicted.
func (m *machine) findSince(t *rapid.T) {
	model := m.model
	if len(model.msgs) == 0 {
		return
	}
	l, set := m.use(t), drawFilters(t)
	since := model.msgs[rapid.IntRange(0, len(model.msgs)-1).Draw(t, "since")].time
	pos := l.find(set, store.Start{Since: time.UnixMilli(since)})
	model.read(l, store.Query{Select: set, After: pos}, drawRoom(t))
	lost := false
	for name, seq := range model.evicted {
		if set.Match(name) && model.get(seq).time >= since {
			lost = true
			if pos >= seq {
				t.Fatalf("since %d of %v leads to %d: no gap, but %d was evicted", since, set, pos, seq)
			}
		} else if set.Match(name) && pos < seq && !model.anyLost(set, since) {
			t.Fatalf("since %d of %v leads to %d, before %d, which is older and evicted", since, set, pos, seq)
		}
	}
	for _, s := range model.of(set, 0, model.newest()) {
		if behind := s.Seq > pos; s.time >= since && !behind || s.time < since && behind && !lost {
			t.Fatalf("since %d of %v leads to %d; %d has %d", since, set, pos, s.Seq, s.time)
		}
	}
}

// anyLost reports whether a message of that time or later was evicted.
func (m *model) anyLost(set group.Set, since int64) bool {
	for name, seq := range m.evicted {
		if set.Match(name) && m.get(seq).time >= since {
			return true
		}
	}
	return false
}

// syncEvictions evicts from the model the messages that the store evicted for memory: the oldest of each group.
func (m *machine) syncEvictions() {
	if !m.evicts {
		return
	}
	oldest := map[string]store.Seq{}
	for g := range store.EachGroup(m.log, "") {
		oldest[g.Group] = g.Oldest
	}
	for _, name := range randomGroups {
		seq := oldest[name]
		if seq == 0 {
			seq = m.model.newest() + 1
		}
		m.model.evictBelow(name, seq)
	}
}

// check is called after each operation.
func (m *machine) check(t *rapid.T) {
	l := m.use(t)
	m.syncEvictions()
	m.settle(l)
	m.model.checkGroups(l)
	oldest, newest := l.Bounds()
	held := m.model.of(filters("# $sys/#"), 0, m.model.newest())
	if newest.Seq != m.model.newest() || len(held) > 0 && oldest.Seq >= held[0].Seq || oldest.Seq > newest.Seq {
		t.Fatalf("bounds are %v to %v with %d messages held", oldest, newest, len(held))
	}
}

// settle waits until the policies hold for messages that the store has spilled.
func (m *machine) settle(l *log) {
	if !m.model.spills {
		return
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(settleTimeout); m.model.wrongGroups(l) != "" && time.Now().Before(end); {
		<-tick.C
	}
}

// settleTimeout is how long a store that spills may take to evict.
const settleTimeout = time.Minute
