//go:build !windows

package logs

import (
	"context"
	"fmt"
	"sync"
	"testing"

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
	v.set(true)
	eventually(t, "the log is away", func() bool { return b.Err() != nil })
	pos := add(t, a, text("x", "1"))
	v.set(false)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	eventually(t, "the log is back", func() bool { return b.Err() == nil })
	if !b.Reach(ctx, pos) || read(t, b, "x", pos-1).n != 1 {
		t.Errorf("the log does not have %d", pos)
	}
	if b.Reach(ctx, pos+1000) { // hubs write notes, too
		t.Error("the log has a position that does not exist")
	}
}
