//go:build !windows

package logs

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

func TestTwoLogsOfAStreamShowTheSame(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream()}
	a, b := open(t, o), open(t, o)
	var all sync.WaitGroup
	for i, l := range []*jetstream.Log{a, b, a, b} {
		all.Go(func() {
			for k := range 100 {
				group := fmt.Sprint("group/", k%3)
				add(t, l, text(group, fmt.Sprint(i, " ", k)))
				if k%25 == 0 {
					add(t, l, text(group, "x"), text("other", "y"), text(group, "z"))
				}
				if i == 1 && k == 50 {
					must(t, l.SetPolicy(filters("group/1")[0], store.Policy{MaxMessages: 20}))
				}
				if i == 2 && k == 70 {
					must(t, l.Purge("group/2"))
				}
			}
		})
	}
	all.Wait()
	c := open(t, o) // it reads everything from the stream
	for _, l := range []*jetstream.Log{a, b, c} {
		eventually(t, "each log has everything", func() bool { return read(t, l, "#", 0).next == read(t, a, "#", 0).next })
	}
	for _, f := range []string{"#", "group/0", "group/1", "group/2", "other"} {
		ha, hb := read(t, a, f, 0), read(t, b, f, 0)
		if ha != hb || ha.n == 0 {
			t.Errorf("%s: %v and %v", f, ha, hb)
		}
		eventually(t, "a log that was opened later shows the same", func() bool { return read(t, c, f, 0) == ha })
	}
	if h := read(t, c, "group/1", 0); h.n != 20 || h.gap == 0 {
		t.Errorf("of group/1, which keeps 20 messages: %v", h)
	}
}

func TestALogWaitsForAPositionOfAnother(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream()}
	a := open(t, o)
	v := &valve{}
	o.Dialer = v
	b := open(t, o)
	var pos store.Seq
	whileAway(t, b, v, func() { pos = add(t, a, text("x", "1")) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	eventually(t, "the log is back", func() bool { return b.Err() == nil })
	epoch, _ := end(a)
	if got, err := b.Reach(ctx, store.ID{Epoch: epoch, Seq: pos}); !got || err != nil || read(t, b, "x", pos-1).n != 1 {
		t.Errorf("the log does not have %d: %v, %v", pos, got, err)
	}
	for _, id := range []store.ID{{Epoch: epoch, Seq: pos + 1000}, {Epoch: "another", Seq: 1}} { // hubs write notes, too
		if got, err := b.Reach(ctx, id); got || err != nil {
			t.Errorf("the log has %v, which does not exist: %v, %v", id, got, err)
		}
	}
}

// TestALogThatIsAwayDoesNotKnowWhatTheStreamHas asks a log that is cut off for what another one has: a message, and then one of
// another epoch.
func TestALogThatIsAwayDoesNotKnowWhatTheStreamHas(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	o := jetstream.Options{URL: url, Stream: newStream()}
	a := open(t, o)
	v := &valve{}
	o.Dialer = v
	b := open(t, o)
	reach := func(id store.ID, patience time.Duration) (bool, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return b.Reach(ctx, id)
	}
	const short = 3 * time.Second // more than it takes to be certain
	before, _ := end(a)
	var id store.ID
	whileAway(t, b, v, func() {
		id = store.ID{Epoch: before, Seq: add(t, a, text("x", "1"))}
		if got, err := reach(id, short); got || err != store.ErrAway {
			t.Errorf("a message of another hub: %v, %v", got, err)
		}
		must(t, admin.DeleteStream(t.Context(), o.Stream))
		eventually(t, "messages are taken again", func() bool {
			next, err := a.Append(t.Context(), []store.Entry{text("x", "new")})
			id = next
			return err == nil && id.Epoch != before
		})
		if got, err := reach(id, short); got || err != store.ErrAway {
			t.Errorf("a message of a new epoch: %v, %v", got, err)
		}
	})
	eventually(t, "the log is back", func() bool { got, err := reach(id, patience); return got && err == nil })
	if epoch, n := end(b); epoch != id.Epoch || n < id.Seq {
		t.Errorf("the log ends at %s-%d, and is said to have %v", epoch, n, id)
	}
	v.set(true)
	refused := make(chan error)
	go func() {
		_, err := reach(store.ID{Epoch: id.Epoch, Seq: id.Seq + 1000}, patience)
		refused <- err
	}()
	must(t, b.Close())
	if err := <-refused; err != store.ErrClosed {
		t.Errorf("when the log is closed: %v", err)
	}
}

// TestTheNewestMessagesOfAGroupAreFoundBehindMany looks for large messages. Memory has no room for most of them, and tens of
// thousands of another group are between them.
func TestTheNewestMessagesOfAGroupAreFoundBehindMany(t *testing.T) {
	l := open(t, jetstream.Options{URL: servers.ForTest(t, 1).URL(), Stream: newStream(), MaxMemory: 1 << 20})
	const n = 40 // of each group
	many := make([]store.Entry, 1000)
	for i := range many {
		many[i] = text("busy", "y")
	}
	var inner, outer []store.Seq
	for i := range n {
		outer = append(outer, add(t, l, text("rare", strings.Repeat("a", 64<<10))))
		inner = append(inner, add(t, l, text("rare/one", strings.Repeat("b", 64<<10))))
		if i == n/2 {
			for range 70 {
				add(t, l, many...)
			}
		}
	}
	newest := add(t, l, text("rare/two", "x"))
	for _, c := range []struct {
		filters string
		last    int
		want    store.Seq
	}{
		{"rare", n, outer[0] - 1}, {"rare", n - 5, outer[5] - 1}, {"rare", 2 * n, outer[0] - 1}, {"rare/one", n - 1, inner[1] - 1},
		{"rare/+", n, inner[1] - 1}, {"rare/#", 2 * n, inner[0] - 1}, {"none rare/# rare", 2*n + 1, outer[0] - 1},
		{"+/one nobody", n - 2, inner[2] - 1}, {"# rare", 1, newest - 1},
	} {
		if pos, err := l.Find(filters(c.filters), store.Start{Last: c.last}); err != nil || pos != c.want {
			t.Errorf("the last %d of %s are after %d, %v; want %d", c.last, c.filters, pos, err, c.want)
		}
	}
}

// TestALogThatIsAwayDoesNotFindFewerMessages asks for the newest messages and for those of a time. Memory has only some of them.
func TestALogThatIsAwayDoesNotFindFewerMessages(t *testing.T) {
	v := &valve{}
	l := open(t, jetstream.Options{
		URL: servers.ForTest(t, 1).URL(), Stream: newStream(), MaxMemory: 1 << 20, Dialer: v, Times: jetstream.Times{Patience: time.Second},
	})
	begun := time.Now()
	set := filters("x")
	last := store.Start{Last: 40}
	var want store.Seq
	for i := range 50 {
		seq := add(t, l, text("x", strings.Repeat("a", 64<<10)))
		if i == 50-last.Last {
			want = seq - 1
		}
	}
	v.set(true)
	for _, s := range []store.Start{last, {Since: begun}} {
		if pos, err := l.Find(set, s); err != store.ErrAway {
			t.Errorf("%+v: %d, %v", s, pos, err)
		}
	}
	v.set(false)
	eventually(t, "the log is back", func() bool {
		pos, err := l.Find(set, last)
		return err == nil && pos == want
	})
}
