package jetstream

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// A hub that finds that messages are missing writes the marks of some groups at a time, since it asks the servers about each of them. It may die
// between two steps. So a note is written with the last marks: only marks before it say what another hub has told.

// telling is what a comparison has found. It is kept until it is told, since the hubs may remove messages meanwhile. Which groups it is about
// is found out once: the first marks evict what would show it.
type telling struct {
	difference
	times      uint64                                                 // how often purges may have been missed when it was found
	groups     []string                                               // that may have lost messages and are not told yet
	markOf     func(ctx context.Context, group string) (*mark, error) // returns what a group has lost; nil: nothing. It is nil until the groups are known
	everywhere bool                                                   // another hub has told, which does not know what this one has in memory: any group may lack messages
	explains   map[string]int                                         // by group: of how many subjects that are gone it is the reason if it has lost messages
	last       []keyedMark                                            // written with the last marks
	told       int                                                    // how many groups have lost messages
}

// left returns how many groups are not told yet, as far as that is known.
func (t *telling) left() int {
	if t == nil {
		return 0
	}
	return len(t.groups)
}

// limit has all groups told if more than most may have lost messages up to a position. It says nothing of what is behind it: readers that have
// all of it get no gap.
func (t *telling) limit(most int, through store.Seq) (exceeded bool) {
	if len(t.groups) <= most {
		return false
	}
	t.groups = nil
	t.last = append(t.last, keyedMark{lostKey, mark{Eviction: memory.Eviction{Through: through}, Written: time.Now()}})
	return true
}

// marksAtOnce is how many groups are told in a step.
const marksAtOnce = 100

// tellEach writes the marks of the groups that are not told yet. attempt gives each step its time.
func (l *Log) tellEach(ctx context.Context, t *telling, attempt func(context.Context, func(context.Context) error) error) error {
	for done := false; !done; {
		err := attempt(ctx, func(ctx context.Context) (err error) { done, err = l.tellSome(ctx, t); return err })
		if err != nil {
			return err
		}
	}
	return nil
}

// tellSome writes the marks of some groups: those about which the servers answer in half of the time. It reports whether they are the last
// ones. It fails if there are none.
func (l *Log) tellSome(ctx context.Context, t *telling) (done bool, err error) {
	asked, list := 0, []keyedMark(nil)
	deadline, _ := ctx.Deadline()
	late := time.Now().Add(time.Until(deadline) / 2)
	for _, name := range t.groups[:min(len(t.groups), marksAtOnce)] {
		m, err := t.markOf(ctx, name)
		if err != nil && asked == 0 {
			return false, err
		}
		if err != nil {
			break
		}
		if m != nil {
			list = append(list, groupMark(*m))
		}
		if asked++; time.Now().After(late) {
			break
		}
	}
	gone := t.gone
	for _, m := range list {
		gone[partOf(escape(m.Group))] -= t.explains[m.Group]
	}
	n := len(list)
	if done = asked == len(t.groups); done {
		list = append(list, t.last...)
		if slices.Max(gone[:]) > 0 { // in groups that this hub does not know
			list = append(list, keyedMark{goneKey, mark{Missing: t.counted, Written: time.Now()}})
		}
		if t.found() || t.told+n > 0 {
			list = append(list, keyedMark{toldKey, mark{Written: time.Now()}})
		}
	}
	if len(list) > 0 {
		if _, err := l.markIn(ctx, t.epoch, list); err != nil {
			return false, err
		}
	}
	t.groups, t.gone, t.told = t.groups[asked:], gone, t.told+n
	return done, nil
}

// byPart orders groups by their parts: if the marks are written in several steps, most parts are told in one.
func byPart(a, b string) int {
	return cmp.Or(cmp.Compare(partOf(escape(a)), partOf(escape(b))), cmp.Compare(a, b))
}
