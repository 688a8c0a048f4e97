//go:build !windows

package logs

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestALogThatWasCutOffDropsWhatAnotherThatStartsHasTold purges messages while the only log is cut off. Another one that is opened meanwhile tells
// that they are missing, and counts again. It cannot know which messages those were. The first one still has them in memory when it is back.
func TestALogThatWasCutOffDropsWhatAnotherThatStartsHasTold(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	for name, stays := range map[string]bool{"and stays open": true, "and is closed": false} {
		t.Run(name, func(t *testing.T) {
			v, o := &valve{}, jetstream.Options{URL: url, Stream: newStream(), Times: quick}
			o.Dialer = v
			a := open(t, o)
			const messages, left = 10, 3
			for i := range messages {
				add(t, a, text("all", fmt.Sprint(i)), text("front", fmt.Sprint(i)), text("kept", fmt.Sprint(i)), retain("value", fmt.Sprint(i)))
			}
			last := add(t, a, text("value", "is not retained"))
			counted(t, admin, o.Stream, last)
			stream, err := admin.Stream(t.Context(), o.Stream)
			must(t, err)
			purge := func(subject string, o2 ...js.StreamPurgeOpt) {
				t.Helper()
				must(t, stream.Purge(t.Context(), append(o2, js.WithPurgeSubject("wb."+o.Stream+"."+subject))...))
			}
			whileAway(t, a, v, func() {
				purge("m.all")
				purge("m.front", js.WithPurgeKeep(left))
				purge("r.value")
				o.Dialer = nil
				b := open(t, o)
				info, err := stream.Info(t.Context())
				must(t, err)
				counted(t, admin, o.Stream, store.Seq(info.State.LastSeq))
				if !stays {
					must(t, b.Close())
				}
			})
			for group, n := range map[string]int{"all": 0, "front": left, "value": 1} {
				var h history
				defer func() {
					if t.Failed() {
						t.Logf("%s: %v, want a gap and %d messages", group, h, n)
					}
				}()
				eventually(t, "the purge of "+group+" is told", func() bool { h = read(t, a, group, 0); return h.gap > 0 && h.n == n })
			}
			eventually(t, "the retained message is dropped", func() bool {
				b := &store.Batch{Buf: make([]byte, 0, 1<<10)}
				must(t, a.Read(store.Query{Select: filters("value"), Retained: true}, b))
				return len(b.Frames) == 0
			})
			if h := read(t, a, "kept", 0); h.gap > 0 || h.n != messages {
				t.Errorf("kept has lost nothing: %v", h)
			}
		})
	}
}

// TestALogTellsWhatGroupsHaveLostThatItHasNoRoomToKnow purges two groups that are counted together while a log is cut off. The log has
// room for few names, and has forgotten that of one of the two.
func TestALogTellsWhatGroupsHaveLostThatItHasNoRoomToKnow(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin, v := connect(t, url), &valve{}
	o := jetstream.Options{URL: url, Stream: newStream(), Dialer: v, MaxMemory: 1 << 20, Times: quick}
	a := open(t, o)
	const unknown, groups = "unknown", 5000
	known := neighbour(unknown)
	before := add(t, a, text("first", "x"))
	add(t, a, text(unknown, "x"))
	addToMany(t, a, groups)
	counted(t, admin, o.Stream, add(t, a, text(known, "x")))
	if page, _ := a.Groups(store.GroupQuery{Prefix: unknown, Limit: 1}); len(page) > 0 {
		t.Fatal("the log has room for all names")
	}
	stream, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	whileAway(t, a, v, func() {
		for _, group := range []string{unknown, known} {
			must(t, stream.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m."+group)))
		}
	})
	for _, group := range []string{known, unknown} {
		eventually(t, "the purge of "+group+" is told", func() bool { h := read(t, a, group, before); return h.gap > 0 && h.n == 0 })
	}
}

// TestALogTellsTheRestIfAnotherDiesWhileItTells purges messages of groups that are counted together while two logs are cut off. The first one that is
// back dies when it has told some of them. None of the logs knows the name of one of the groups.
func TestALogTellsTheRestIfAnotherDiesWhileItTells(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin, v, w := connect(t, url), &tapped{}, &valve{}
	o := jetstream.Options{URL: url, Stream: newStream(), MaxMemory: 1 << 20, Times: quick}
	o.Dialer = w
	b := open(t, o)
	o.Dialer = v
	a := open(t, o)
	const unknown, groups, answers = "unknown", 5000, 120
	before := add(t, a, text("first", "x"))
	add(t, a, text(unknown, "x"))
	addToMany(t, a, groups)
	names := neighbours(unknown, "purged/", 150)
	var second store.Seq
	for range 2 {
		var list []store.Entry
		for _, name := range names {
			list = append(list, text(name, "x"))
		}
		second = add(t, a, list...)
	}
	_, last := end(a)
	counted(t, admin, o.Stream, last)
	eventually(t, "both have all", func() bool { _, n := end(b); return n >= last })
	stream, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	whileAway(t, b, w, func() {
		died := make(chan struct{})
		whileAway(t, a, &v.valve, func() {
			must(t, stream.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m."+unknown)))
			must(t, stream.Purge(t.Context(), js.WithPurgeSequence(uint64(second)), js.WithPurgeSubject("wb."+o.Stream+".m.purged.>")))
			var asked atomic.Int64
			v.tap(func(b []byte) bool {
				if asksForMessage(b) && asked.Add(1) == answers {
					close(died)
				}
				return asked.Load() < answers
			})
		})
		<-died
		v.set(true)
	})
	for _, name := range []string{names[0], names[len(names)-1]} {
		eventually(t, "the purge of "+name+" is told", func() bool { h := read(t, b, name, before); return h.gap > 0 && h.n == 1 })
	}
	eventually(t, "the purge of the unknown group is told", func() bool { h := read(t, b, unknown, before); return h.gap > 0 && h.n == 0 })
}

// TestManyGroupsAreToldThoughTheServersAreSlow purges messages of many groups. The servers are so slow that they cannot answer the questions
// about all groups within learnTimeout.
func TestManyGroupsAreToldThoughTheServersAreSlow(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for a slow server")
	}
	url := servers.ForTest(t, 1).URL()
	admin, v := connect(t, url), &tapped{}
	o := jetstream.Options{URL: url, Stream: newStream(), Dialer: v, Times: quick}
	a := open(t, o)
	const groups = 900
	addToMany(t, a, groups)
	second, last := addToMany(t, a, groups)
	counted(t, admin, o.Stream, last)
	stream, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	whileAway(t, a, &v.valve, func() {
		must(t, stream.Purge(t.Context(), js.WithPurgeSequence(uint64(second)), js.WithPurgeSubject("wb."+o.Stream+".m.many.>")))
		v.tap(func(b []byte) bool {
			if asksForMessage(b) {
				time.Sleep(20 * time.Millisecond) // in all, more than learnTimeout
			}
			return true
		})
	})
	for i := range groups {
		name := fmt.Sprint("many/", i)
		eventually(t, "the purge of "+name+" is told", func() bool { h := read(t, a, name, 0); return h.gap > 0 && h.n == 1 })
	}
}

// TestATellingThatTheServersInterruptGoesOn purges messages of many groups while a log is cut off. When it has told some of them, the servers do
// not answer for some turns.
func TestATellingThatTheServersInterruptGoesOn(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin, v := connect(t, url), &tapped{}
	o := jetstream.Options{URL: url, Stream: newStream(), Dialer: v, Times: quick}
	a := open(t, o)
	const groups, answers, losses = 200, 150, 3
	addToMany(t, a, groups)
	second, last := addToMany(t, a, groups)
	counted(t, admin, o.Stream, last)
	stream, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	var asked atomic.Int64
	whileAway(t, a, &v.valve, func() {
		must(t, stream.Purge(t.Context(), js.WithPurgeSequence(uint64(second)), js.WithPurgeSubject("wb."+o.Stream+".m.many.>")))
		v.tap(func(b []byte) bool {
			if !asksForMessage(b) {
				return true
			}
			n := asked.Add(1)
			return n <= answers || n > answers+losses
		})
	})
	for i := range groups {
		name := fmt.Sprint("many/", i)
		eventually(t, "the purge of "+name+" is told", func() bool { h := read(t, a, name, 0); return h.gap > 0 && h.n == 1 })
	}
	if n := asked.Load(); n <= answers+losses || n > 2*groups {
		t.Errorf("the servers were asked %d times about %d groups", n, groups)
	}
}

// asksForMessage reports whether a hub sends a question about a single message.
func asksForMessage(b []byte) bool { return bytes.Contains(b, []byte(".STREAM.MSG.GET.TEST")) }
