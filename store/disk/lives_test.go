package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
	"github.com/watchbox-go/watchbox/store/tiered"
)

// TestRandomLives opens stores with various bounds several times. In each life, goroutines write, read, change
// policies and purge groups concurrently. A life ends with Close, a power cut, a simulated kill, or an export and
// an import. Across all lives, each reader gets the messages after its position once and in order, or a gap in
// their place.
func TestRandomLives(t *testing.T) {
	t.Parallel()
	for seed := range 4 * scale {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newLives(t, uint64(seed))
			for m.life = range 3 {
				m.live()
				if m.judge(); t.Failed() {
					return
				}
			}
		})
	}
}

// lives is the state of a store over its lives.
type lives struct {
	*testing.T
	seed    uint64
	rng     *rand.Rand
	options disk.Options
	tiers   bool
	mem     *vfs.MemFS // the file system of the store; nil: real files
	life    int
	s       store.Store
	readers []*reader
	appends chan struct{} // holds a wake-up after some of the appends

	mu   sync.Mutex // guards the fields below
	sent map[store.Seq]sentText
}

type sentText struct {
	group, text string
	expires     bool
}

// reader follows a store over its lives.
type reader struct {
	set       group.Set
	room      int
	slow      bool
	live      bool // it has read up to the end in this life
	from, pos store.Seq
	reported  uint64
	got       map[store.Seq]string
	gaps      []span
}

// span is a gap: after a position, up to another, for the groups that match.
type span struct {
	after, through store.Seq
	set            group.Set
}

var livesGroups = func() (list []string) {
	for i := range 12 {
		list = append(list, fmt.Sprintf("g/%d", i), fmt.Sprintf("g/%d/x", i))
	}
	return append(list, "a", "a/b", "$e")
}()

var livesFilters = []string{"#", "a", "g/+", "g/1 g/2/x a", "g/# $e", "g/3", "+/b a/b", "g/5/#"}

func filtersOf(s string) (set group.Set) {
	for _, text := range strings.Fields(s) {
		f, err := group.ParseFilter(text)
		if err != nil {
			panic(err)
		}
		set = append(set, f)
	}
	return set
}

func newLives(t *testing.T, seed uint64) *lives {
	m := &lives{T: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), sent: map[store.Seq]sentText{}}
	m.options = disk.Options{
		Dir: "store", Fsync: disk.Never,
		MaxMemory: []int64{1 << 20, 8 << 20}[m.rng.IntN(2)],
		MaxGroups: []int{0, 15}[m.rng.IntN(2)],
		MaxDisk:   []int64{0, 0, 8 << 20}[m.rng.IntN(3)],
	}.Recalling([]int{1, 4 << 10, 32 << 10, 1 << 20}[m.rng.IntN(4)])
	m.tiers = m.rng.IntN(3) > 0
	if m.rng.IntN(2) > 0 {
		m.mem = vfs.NewCrashableMem()
	} else {
		m.options.Dir = filepath.Join(tempDir(t), "0")
	}
	return m
}

func (m *lives) open() {
	m.Helper()
	var err error
	o := m.options
	if m.mem != nil {
		o = o.On(m.mem)
	}
	if m.tiers {
		m.s, err = tiered.Open(o)
	} else {
		m.s, err = disk.Open(o)
	}
	if err != nil {
		m.Fatal(err)
	}
}

// live runs one life of the store.
func (m *lives) live() {
	m.open()
	for _, r := range m.readers { // an earlier life counted its losses differently
		r.reported, r.live = 0, false
	}
	_, newest := m.s.Bounds()
	for i, f := range livesFilters {
		r := &reader{set: filtersOf(f), room: []int{300, 4 << 10, 64 << 10}[m.rng.IntN(3)], got: map[store.Seq]string{}}
		if i%2 > 0 {
			r.pos, r.from, r.slow = newest.Seq, newest.Seq, true
		} else if m.life > 0 {
			r.pos, r.from, r.live = newest.Seq, newest.Seq, true
		}
		m.readers = append(m.readers, r)
	}
	var writers, others sync.WaitGroup
	over := make(chan struct{})
	m.appends = make(chan struct{}, 1)
	for w := range uint64(3) {
		rng := rand.New(rand.NewPCG(m.seed, uint64(m.life)<<8|w))
		writers.Go(func() { m.write(rng) })
	}
	for _, r := range m.readers {
		others.Go(func() { m.follow(r, over) })
	}
	rng := rand.New(rand.NewPCG(m.seed, uint64(m.life)<<8|100))
	others.Go(func() { m.disturb(rng, over) })
	writers.Wait()
	close(over)
	others.Wait()
	m.die()
}

// write appends messages.
func (m *lives) write(rng *rand.Rand) {
	wake := waker(m.appends)
	for n := range 250 * min(scale, 2) {
		var entries []store.Entry
		var texts []sentText
		for i := range 1 + rng.IntN(4) {
			x := sentText{
				group: livesGroups[rng.IntN(len(livesGroups))], expires: rng.IntN(20) == 0,
				text: fmt.Sprint(m.life, " ", n, " ", i, " ", strings.Repeat("x", rng.IntN(600))),
			}
			e := store.Message{Group: x.group, Time: time.Now(), Msg: store.AppendQuote(nil, x.text), Retain: rng.IntN(10) == 0}
			if x.expires {
				e.Expires = time.Now().Add(time.Duration(rng.IntN(50)) * time.Millisecond)
			}
			texts, entries = append(texts, x), append(entries, e.Entry(nil))
		}
		id, err := m.s.Append(m.Context(), entries)
		if rng.IntN(5) == 0 {
			wake()
		}
		if err != nil {
			if !errors.Is(err, store.ErrTooManyGroups) && !errors.Is(err, store.ErrFull) {
				m.Error(err)
			}
			continue
		}
		m.mu.Lock()
		for i, x := range texts {
			seq := id.Seq + store.Seq(i)
			if _, twice := m.sent[seq]; twice {
				m.Errorf("%d was given out twice", seq)
			}
			m.sent[seq] = x
		}
		m.mu.Unlock()
	}
}

// disturb changes policies and purges groups.
func (m *lives) disturb(rng *rand.Rand, over <-chan struct{}) {
	policies := []store.Policy{
		{}, {MaxMessages: 1}, {MaxMessages: 30}, {MaxBytes: 2000}, {MaxAge: 5 * time.Millisecond}, {MaxMessages: 300},
		{MaxAge: time.Hour, Compress: store.Yes},
	}
	filters := []string{"g/+", "a", "g/#", "g/1", "g/2/#", "#", "a/b", "$e"}
	for {
		select {
		case <-over:
			return
		case <-m.appends:
		}
		var err error
		if rng.IntN(3) == 0 {
			err = m.s.Purge(livesGroups[rng.IntN(len(livesGroups))])
		} else {
			p := policies[rng.IntN(len(policies))]
			if m.tiers {
				p.Store = []store.Kind{"", store.Memory, store.Disk}[rng.IntN(3)]
			}
			err = m.s.SetPolicy(filtersOf(filters[rng.IntN(len(filters))])[0], p)
		}
		if err != nil {
			m.Error(err)
		}
	}
}

// follow reads after appends until the life is over. A slow reader reads once after each wake-up, the others read
// up to the end.
func (m *lives) follow(r *reader, over <-chan struct{}) {
	wake := make(chan struct{}, 1)
	defer m.s.Watch(wake)()
	b := &store.Batch{Buf: make([]byte, 0, r.room)}
	for done := false; !done; {
		select {
		case <-over:
			done = true
		case <-wake:
		}
		for {
			if _, end := m.s.Bounds(); r.pos >= end.Seq {
				break
			}
			if err := r.read(m.s, b); err != nil {
				m.Errorf("%v: %v", r.set, err)
				return
			}
			if r.slow {
				break
			}
		}
	}
}

// read reads once, and returns an error if the batch is wrong.
func (r *reader) read(s store.Store, b *store.Batch) error {
	if err := s.Read(store.Query{Select: r.set, After: r.pos, Reported: r.reported, Live: r.live}, b); err != nil {
		return err
	}
	if b.Next <= r.pos {
		return fmt.Errorf("a read after %d leads to %d", r.pos, b.Next)
	}
	if len(b.Gaps) > 0 {
		r.reported = b.Reported
	}
	for _, g := range b.Gaps {
		r.gaps = append(r.gaps, span{r.pos, g.Evicted, filtersOf(g.Filter)})
	}
	last := r.pos
	for i := range b.Frames {
		f := &b.Frames[i]
		if f.Seq <= last || f.Seq > b.Next {
			return fmt.Errorf("%d comes after %d, and Next is %d", f.Seq, last, b.Next)
		}
		last = f.Seq
		r.got[f.Seq] = f.Group + " " + string(f.Payload(nil))
	}
	r.pos = b.Next
	return nil
}

// die ends the store's life.
func (m *lives) die() {
	cut := m.mem
	if m.mem != nil { // of unsynced data, nothing, a part or all is left; all is left by a kill
		kept := []int{0, 50, 100, 100}[m.rng.IntN(4)]
		cut = m.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: m.rng})
	}
	if err := m.s.Close(); err != nil {
		m.Fatal(err)
	}
	switch way := m.rng.IntN(3); {
	case way == 0:
	case m.mem != nil:
		m.mem = cut
	default:
		var dump bytes.Buffer
		if err := disk.Export(m.options.Dir, &dump, nil); err != nil {
			m.Fatal(err)
		}
		m.options.Dir = filepath.Join(filepath.Dir(m.options.Dir), fmt.Sprint(m.life+1))
		if err := disk.Import(m.Context(), m.options.Dir, &dump, disk.ImportOptions{Moved: way == 1}); err != nil {
			m.Fatal(err)
		}
	}
	if m.mem == nil {
		if _, err := disk.Check(m.options.Dir, func(fault string) { m.Error(fault) }, nil); err != nil {
			m.Error(err)
		}
	}
}

// judge compares the messages that the readers got with those that were appended.
func (m *lives) judge() {
	read := 0
	for _, r := range m.readers {
		for seq, x := range m.sent {
			switch text, ok := r.got[seq]; {
			case ok && text != x.group+" "+x.text:
				m.Errorf("%v: message %d is %.40q", r.set, seq, text)
			case ok && !r.set.Match(x.group):
				m.Errorf("%v got %d of %s", r.set, seq, x.group)
			case ok:
				read++
			case seq > r.from && seq <= r.pos && r.set.Match(x.group) && !x.expires && !r.heard(seq, x.group):
				m.Errorf("%v: message %d of %s is missing without a gap", r.set, seq, x.group)
			}
			if m.Failed() {
				return
			}
		}
		for seq := range r.got {
			if _, ok := m.sent[seq]; !ok {
				m.Errorf("%v got %d, which was never sent", r.set, seq)
			}
		}
	}
	if read == 0 {
		m.Error("nothing was read: the test proves nothing")
	}
}

// heard reports whether the reader got a gap that covers a message.
func (r *reader) heard(seq store.Seq, name string) bool {
	for _, g := range r.gaps {
		if g.after < seq && seq <= g.through && g.set.Match(name) {
			return true
		}
	}
	return false
}
