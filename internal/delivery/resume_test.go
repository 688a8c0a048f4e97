package delivery_test

import (
	"fmt"
	"testing"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// TestResumeAtEveryByte disconnects streams after each of their bytes and resumes after the last id that was
// received. Both parts together must be the same as one uninterrupted stream.
func TestResumeAtEveryByte(t *testing.T) {
	for name, c := range map[string]struct {
		filters []string
		begin   delivery.Start
		evict   bool
		raw     bool
	}{
		"all":               {filters: []string{"#"}},
		"one group":         {filters: []string{"a"}},
		"several":           {filters: []string{"a", "b/+", "b/#"}},
		"raw":               {filters: []string{"a", "b/1"}, raw: true},
		"evicted":           {filters: []string{"a"}, evict: true},
		"several evicted":   {filters: []string{"a", "b/1", "b/2", "c"}, evict: true},
		"held":              {filters: []string{"a", "b/1"}, begin: delivery.Start{Held: true}, evict: true},
		"an id of no epoch": {filters: []string{"a", "b/1"}, begin: delivery.Start{Held: true, Unknown: "none"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, memory.Options{}, false)
			names := []string{"a", "b/1", "b/2", "c"}
			for i := range 16 {
				r.publish(store.Message{Group: names[i%4], UID: uidOf(i), Event: []string{"", "e"}[i%2], Msg: fmt.Append(nil, "line\n", i)})
			}
			if c.evict {
				r.policy("a", store.Policy{MaxMessages: 2})
				r.policy("b/1", store.Policy{MaxMessages: 3})
				r.policy("b/2", store.Policy{MaxMessages: 1})
			}
			f, end := filters(c.filters...), r.say("a", "end")
			raw := view(delivery.View{Raw: c.raw})
			whole := r.listen(f, start(c.begin), raw)
			whole.awaitSeq(t, end)
			stream := whole.bytes()
			for cut := range len(stream) {
				first := parse(stream[:cut])
				for i := range first {
					first[i].newest = end
				}
				expectation, begin := expect(f, 0), start(c.begin)
				expectation.raw, expectation.cut = c.raw, true
				if c.begin.Held {
					expectation.hold(r)
				}
				at, ok := lastID(first)
				if ok {
					begin = after(at)
				}
				if ok && c.begin.Unknown != "" {
					expectation.unknown = len(f)
				}
				if err := expectation.verify(r.published, first, at); err != nil && (ok || c.begin.Unknown == "") {
					t.Fatalf("cut at %d, first part: %v\n%s", cut, err, stream[:cut])
				}
				l := r.listen(f, raw, begin)
				l.awaitSeq(t, end)
				l.hangUp()
				l.ended(t)
				rest := expect(f, at)
				rest.raw = c.raw
				if !ok && c.begin.Held {
					rest.held, rest.until = expectation.held, expectation.until
				}
				rest.unknown = len(f)
				if ok || c.begin.Unknown == "" {
					rest.unknown = 0
				}
				if err := rest.verify(r.published, l.blocks(), end); err != nil {
					t.Fatalf("cut at %d, second part: %v\n%s----\n%s", cut, err, stream[:cut], l.bytes())
				}
			}
		})
	}
}

// lastID returns the position after which a client resumes if it has received these blocks.
func lastID(blocks []block) (seq store.Seq, ok bool) {
	for _, b := range blocks {
		if b.id != "" {
			seq, ok = b.seq, true
		}
	}
	return seq, ok
}

// hold limits the expectation to the messages that the log holds now, for a start with all that is held.
func (c *expectation) hold(r *rig) {
	c.held, c.until = map[store.Seq]bool{}, r.newest()
	b := store.Batch{Buf: make([]byte, 0, 1<<20)}
	for q := (store.Query{Select: filters("#", "$p/#", "$session/+")}); q.After < c.until; q.After = b.Next {
		if err := r.log.Read(q, &b); err != nil {
			r.t.Fatal(err)
		}
		for i := range b.Frames {
			c.held[b.Frames[i].Seq] = true
		}
	}
}
