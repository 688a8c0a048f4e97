package delivery_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// kinds are the paths on which bytes go to a client. All must deliver the same bytes as follow alone.
var kinds = []struct {
	name     string
	notified bool // publishers deliver too
	conn     func(t tester, r *rig) setup
}{
	{"follow", false, func(tester, *rig) setup { return blocking(true) }},
	{"parked", false, func(tester, *rig) setup { return blocking(false) }},
	{"one byte", false, func(tester, *rig) setup { return takes(func(int) int { return 1 }) }},
	{"nothing", false, func(tester, *rig) setup { return takes(func(int) int { return 0 }) }},
	{"half", false, func(tester, *rig) setup { return takes(func(n int) int { return n / 2 }) }},
	{"hijacked", false, func(t tester, r *rig) setup { r.web = newWeb(t, true); return blocking(false) }},
	{"response", false, func(t tester, r *rig) setup { r.web = newWeb(t, false); return blocking(false) }},
	{"follow, by publishers", true, func(tester, *rig) setup { return blocking(true) }},
	{"parked, by publishers", true, func(tester, *rig) setup { return blocking(false) }},
	{"half, by publishers", true, func(tester, *rig) setup { return takes(func(n int) int { return n / 2 }) }},
	{"hijacked, by publishers", true, func(t tester, r *rig) setup { r.web = newWeb(t, true); return blocking(false) }},
	{"codec", false, func(tester, *rig) setup { return codec(1000) }},
	{"codec, by publishers", true, func(tester, *rig) setup { return codec(1000) }},
	{"codec that streams share", true, func(tester, *rig) setup { return codec(0) }},
	{"codec, window of one", true, func(tester, *rig) setup { return codec(1) }},
	{"codec, window of three, half", true, func(tester, *rig) setup {
		return all(codec(3), takes(func(n int) int { return n / 2 }))
	}},
	{"codec, window of two, hijacked", true, func(t tester, r *rig) setup { r.web = newWeb(t, true); return codec(2) }},
}

// scenarios run step by step, and return the listeners.
var scenarios = map[string]func(*rig, setup) []*listener{
	"live": func(r *rig, c setup) []*listener {
		a, b := r.listen(filters("a"), c), r.listen(filters("b"), c)
		for i := range 5 {
			a.awaitSeq(r.t, r.say("a", fmt.Sprint("to a ", i)))
			b.awaitSeq(r.t, r.say("b", fmt.Sprint("to b ", i)))
		}
		return []*listener{a, b}
	},
	"batches over several groups": func(r *rig, c setup) []*listener {
		one, wild, two := r.listen(filters("a/1"), c), r.listen(filters("a/#"), c), r.listen(filters("a/1", "+/2", "b"), c)
		for i := range 4 {
			var batch []store.Message
			for k := range 7 {
				batch = append(batch, store.Message{Group: fmt.Sprintf("a/%d", (i+k)%3), Msg: fmt.Append(nil, i, k)})
			}
			batch = append(batch, store.Message{Group: "b", Msg: []byte("b")}, store.Message{Group: "a/1", Msg: []byte("last")})
			end := r.publish(batch...)
			for _, l := range []*listener{one, wild, two} {
				l.awaitSeq(r.t, end)
			}
		}
		return []*listener{one, wild, two}
	},
	"views": func(r *rig, c setup) []*listener {
		raw := r.listen(filters("a"), c, view(delivery.View{Raw: true}))
		others := r.listen(filters("a"), c, view(delivery.View{NotFrom: uidOf(1)}))
		both := r.listen(filters("a", "+"), c, view(delivery.View{Raw: true, NotFrom: uidOf(1)}))
		for i := range 6 {
			r.publish(store.Message{Group: "a", UID: uidOf(i % 2), Event: "e", Msg: []byte("two\nlines")})
		}
		end := r.publish(store.Message{Group: "a", UID: uidOf(0), Msg: []byte("end")})
		for _, l := range []*listener{raw, others, both} {
			l.awaitSeq(r.t, end)
		}
		return []*listener{raw, others, both}
	},
	"resume": func(r *rig, c setup) (all []*listener) {
		for i := range 20 {
			r.say([]string{"a", "b"}[i%2], fmt.Sprint(i))
		}
		for i := range 19 {
			all = append(all, r.listen(filters("a"), c, after(r.at(i))))
		}
		end := r.say("a", "end")
		for _, l := range all {
			l.awaitSeq(r.t, end)
		}
		return all
	},
	"evicted": func(r *rig, c setup) []*listener {
		r.policy("a", store.Policy{MaxMessages: 2})
		for i := range 10 {
			r.say([]string{"a", "b"}[i%2], strings.Repeat("x", i))
		}
		lost, kept := r.listen(filters("a", "b"), c, after(r.at(1))), r.listen(filters("a", "b"), c, after(r.at(6)))
		all := r.listen(filters("a", "b"), c, start(delivery.Start{Held: true}))
		other := r.listen(filters("a", "b"), c, start(delivery.Start{Held: true, Unknown: "x-9"}))
		end := r.say("a", "end")
		for _, l := range []*listener{lost, kept, all, other} {
			l.awaitSeq(r.t, end)
		}
		return []*listener{lost, kept, all, other}
	},
	"retained": func(r *rig, c setup) []*listener {
		for i := range 6 {
			r.publish(store.Message{Group: fmt.Sprintf("a/%d", i%3), Retain: true, Msg: fmt.Append(nil, i)})
		}
		l := r.listen(filters("a/+"), c, start(delivery.Start{After: r.newest(), Live: true, Retained: true}))
		l.awaitSeq(r.t, r.publish(store.Message{Group: "a/1", Retain: true, Msg: []byte("new")}))
		return []*listener{l}
	},
	"filters changed live": func(r *rig, c setup) []*listener {
		l := r.listen(filters("a"), c)
		r.publish(store.Message{Group: "b", Retain: true, Msg: []byte("retained")})
		l.awaitSeq(r.t, r.say("a", "1"))
		if err := l.stream.Join(filters("b")[0]); err != nil {
			panic(err)
		}
		r.say("b", "2")
		l.awaitSeq(r.t, r.say("a", "3"))
		if err := l.stream.Leave(filters("a")[0]); err != nil {
			panic(err)
		}
		r.say("a", "not any more")
		l.awaitSeq(r.t, r.say("b", "4"))
		return []*listener{l}
	},
	"direct messages": func(r *rig, c setup) []*listener {
		one, other := r.listen(filters("a"), c, session("1")), r.listen(filters("a"), c, session("2"))
		twin := r.listen(filters("b"), c, session("1"))
		for i := range 3 {
			twin.awaitSeq(r.t, r.say("$session/1", fmt.Sprint("to one ", i)))
			end := r.say("a", fmt.Sprint(i))
			one.awaitSeq(r.t, end)
			other.awaitSeq(r.t, end)
		}
		return []*listener{one, other, twin}
	},
	"a session that missed something": func(r *rig, c setup) []*listener {
		r.say("$session/1", "missed")
		r.say("a", "not for a session that was away")
		r.say("$session/1", "missed too")
		l := r.make(filters("a"), c, session("1"))
		l.stream.DeliverMissed(0)
		r.say("a", "sent after the stream was created")
		if !r.run(l) {
			r.t.Fatal("closed")
		}
		l.awaitSeq(r.t, r.say("a", "live"))
		return []*listener{l}
	},
	"expired": func(r *rig, c setup) []*listener {
		for i := range 4 {
			m := store.Message{Group: "a", Msg: fmt.Append(nil, i)}
			if i%2 == 1 {
				m.Expires = time.Now().Add(-time.Hour)
			}
			r.publish(m)
		}
		l := r.listen(filters("a"), c, after(0))
		l.awaitSeq(r.t, r.say("a", "end"))
		return []*listener{l}
	},
	"large": func(r *rig, c setup) []*listener {
		l := r.listen(filters("a"), c)
		for i := range 12 {
			r.say("a", strings.Repeat(fmt.Sprint(i), 1<<(2*i%20)))
		}
		l.awaitSeq(r.t, r.say("a", "end"))
		return []*listener{l}
	},
	"slow": func(r *rig, c setup) []*listener {
		l := r.listen(filters("a", "b"), c)
		for i := range 3 {
			l.read(false)
			for k := range 200 {
				r.say([]string{"a", "b", "c"}[k%3], strings.Repeat(fmt.Sprint(i), 1000))
			}
			l.read(true)
			l.awaitSeq(r.t, r.say("a", "end"))
		}
		return []*listener{l}
	},
	"ended": func(r *rig, c setup) []*listener {
		l := r.listen(filters("a"), c)
		l.awaitSeq(r.t, r.say("a", "1"))
		l.stream.End("kicked")
		if why := l.ended(r.t); why != "kicked" {
			r.t.Errorf("ended as %q", why)
		}
		r.say("a", "not any more")
		return []*listener{l}
	},
}

// TestEveryPathDeliversTheSameBytes compares each path of delivery with follow, the definition.
func TestEveryPathDeliversTheSameBytes(t *testing.T) {
	for name, scenario := range scenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []string
			for _, k := range kinds {
				if k.name == "one byte" && name == "large" {
					continue // a goroutine for each byte
				}
				if strings.Contains(k.name, "window") && (name == "evicted" || name == "retained") {
					continue // more is evicted, or replaced, until the client has acknowledged
				}
				t.Run(k.name, func(t *testing.T) {
					got := streams(t, scenario, k.notified, k.conn)
					if want == nil {
						want = got
					}
					for i := range want {
						want := want[i]
						if strings.HasPrefix(k.name, "codec") {
							want = gapID.ReplaceAllString(want, "$1") // a codec is not told the id
						}
						if at := differ(got[i], want); at >= 0 {
							t.Errorf("stream %d: %s\n\nwant, as from follow: %s", i, around(got[i], at), around(want, at))
						}
					}
				})
			}
		})
	}
}

var gapID = regexp.MustCompile(`(event: gap\n)id: .*\n`)

// streams runs a scenario and returns what its listeners received, without the parts that differ between runs.
func streams(t *testing.T, scenario func(*rig, setup) []*listener, notified bool, conn func(tester, *rig) setup) (out []string) {
	r := newRig(t, memory.Options{}, notified)
	listeners := scenario(r, conn(t, r))
	r.set.Close("shutdown")
	for _, l := range listeners {
		l.await(t, "the end", func() bool { return l.closed })
		s := strings.ReplaceAll(string(l.bytes()), r.epoch(), "epoch")
		s = regexp.MustCompile(`"(time|expires)":"[^"]*"`).ReplaceAllString(s, `"$1":""`)
		if !slices.Contains([]string{"shutdown", "kicked"}, byeOf(l)) {
			t.Errorf("no bye at the end: %s", s[max(0, len(s)-200):])
		}
		out = append(out, s)
	}
	return out
}

// byeOf returns the reason in the last event.
func byeOf(l *listener) string {
	blocks := l.blocks()
	if len(blocks) == 0 || blocks[len(blocks)-1].event != "bye" {
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(blocks[len(blocks)-1].data, `{"reason":"`), `"}`)
}

// differ returns where two strings differ; -1: nowhere.
func differ(a, b string) int {
	if a == b {
		return -1
	}
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	return i
}

func around(s string, at int) string { return s[max(0, min(at, len(s))-300):min(len(s), at+300)] }

func uidOf(i int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012d", i) }

// TestAStreamThatStartsWhileTheSetClosesGetsBye closes the set after a stream was created and before it runs.
func TestAStreamThatStartsWhileTheSetClosesGetsBye(t *testing.T) {
	for _, waits := range []bool{false, true} {
		r := newRig(t, memory.Options{}, false)
		l := r.make(filters("a"), blocking(waits))
		r.set.Close("shutdown")
		if r.run(l) || byeOf(l) != "shutdown" {
			t.Errorf("blocking %v: got %q, want a bye with the reason shutdown", waits, l.bytes())
		}
	}
}
