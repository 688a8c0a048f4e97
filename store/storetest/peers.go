package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/watchbox-go/watchbox/store"
)

// peerTests test that all hubs see one log.
var peerTests = []sharedTest{
	{"all hubs read the same frames in the same order, 3 hubs with 2 writers each", sameFrames},
	{"I2 an Append that returned at one hub before another began elsewhere has the lower ids", realTimeOfPeers},
	{"a hub can read what it appended when Append returns", ownAppends},
	{"a hub that opens the log later has all messages, retained ones, notes and policies", laterHub},
	{"policies and purges of one hub hold for all, with the same gaps", samePolicies},
	{"PurgeThrough evicts the messages of a group up to a position at all hubs, and keeps later ones", purgeThrough},
	{"PurgeThrough waits until its hub has read the log up to there", purgeAhead},
	{"Reach waits for the id of a message that another hub has appended", reachAtPeers},
	{"CatchUp waits for what other hubs have appended, 100 times", catchesUp},
	{"Reach says that the log does not have an id of another epoch, or behind its end", reachNothing},
	{"a hub that closes the log does not disturb the others", closedPeer},
	{"Follow, Notes and AppendNoted of a closed log return ErrClosed", closedShared},
}

func catchesUp(c *cluster) {
	a, b := c.two()
	for i := range 100 {
		id := a.put([]*store.Message{text("g", "x")})
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := b.CatchUp(ctx); err != nil {
			c.Errorf("CatchUp: %v", err)
		}
		cancel()
		if _, newest := b.Bounds(); newest.Seq < id.Seq {
			c.Fatalf("the hub has caught up to %d, %d was appended before, after %d times", newest.Seq, id.Seq, i)
		}
	}
}

func purgeThrough(c *cluster) {
	a, b := c.two()
	a.put([]*store.Message{text("a", "1"), retain("a", "2"), text("b", "3")})
	id := a.put([]*store.Message{text("a", "4")})
	a.put([]*store.Message{text("a", "5"), text("a/b", "6")})
	b.meets(a)
	for range 2 {
		if err := b.PurgeThrough("a", id); err != nil {
			c.Fatal(err)
		}
		a.meets(b)
		for _, p := range []*peer{a, b, c.hub()} {
			p.want("a a/b b", "3 5 6")
			wantTexts(c.env, p.retained("#"), "")
		}
		c.sameFrames("#", a, b)
	}
	last := b.put([]*store.Message{retain("a", "7"), text("a", "8")})
	if err := b.PurgeThrough("a", store.ID{Epoch: last.Epoch, Seq: last.Seq - 1}); err != nil {
		c.Fatal(err)
	}
	b.want("a", "7 8")
	wantTexts(c.env, b.retained("#"), "7")
	if err := b.PurgeThrough("a", store.ID{Epoch: last.Epoch, Seq: last.Seq + 1}); err != nil {
		c.Fatal(err)
	}
	b.want("#", "3 6")
	wantTexts(c.env, b.retained("#"), "")
}

func purgeAhead(c *cluster) {
	a, b := c.two()
	for i := range 100 {
		id := a.put([]*store.Message{text("g", fmt.Sprint(i))})
		if err := b.PurgeThrough("g", id); err != nil {
			c.Fatal(err)
		}
		b.want("g", "")
	}
}

// reach calls Reach, and gives it more time than it needs.
func (p *peer) reach(id store.ID) (bool, error) {
	ctx, cancel := context.WithTimeout(p.env.Context(), patience)
	defer cancel()
	return p.Reach(ctx, id)
}

func reachAtPeers(c *cluster) {
	a, b := c.two()
	for n := range 100 {
		id := a.put([]*store.Message{text("a", fmt.Sprint(n))})
		if n%2 == 0 {
			id.Epoch = "" // that of the log
		}
		if ok, err := b.reach(id); !ok || err != nil {
			c.Fatalf("%v: %v, %v", id, ok, err)
		}
		if b.newest() < id.Seq {
			c.Fatalf("a hub has reached %v, and has read up to %d", id, b.newest())
		}
	}
}

func reachNothing(c *cluster) {
	a, b := c.two()
	id := a.put([]*store.Message{text("a", "1")})
	for _, id := range []store.ID{{Epoch: id.Epoch, Seq: id.Seq + 1000}, {Epoch: "another", Seq: 1}} {
		if ok, err := b.reach(id); ok || err != nil {
			c.Errorf("%v: %v, %v", id, ok, err)
		}
	}
}

// sameFrames fails unless the hubs' logs have the same frames and gaps.
func (c *cluster) sameFrames(set string, peers ...*peer) {
	c.Helper()
	first := peers[0].all(set)
	for _, p := range peers[1:] {
		b := p.all(set)
		if string(b.Buf) != string(first.Buf) || b.Epoch != first.Epoch {
			c.Errorf("one hub has %d messages of %s in %d bytes, another one %d in %d",
				len(first.Frames), set, len(first.Buf), len(b.Frames), len(b.Buf))
		}
		if one, other := peers[0].gaps(first), p.gaps(b); one != other {
			c.Errorf("%s: one hub has the gaps %q, another one %q", set, one, other)
		}
	}
}

func sameFrames(c *cluster) {
	peers := []*peer{c.hub(), c.hub(), c.hub()}
	writers(6, 50, func(w, r int) {
		list := []*store.Message{text(fmt.Sprint("group/", r%4), fmt.Sprintf("%d/%d", w, r)), text("all", "x")}
		peers[w%3].add(list[:1+r%2]...)
	})
	for i, p := range peers {
		p.meets(peers[(i+1)%3])
		p.meets(peers[(i+2)%3])
	}
	for _, set := range []string{"#", "group/+", "all", "group/1 group/2", "$meet"} {
		c.sameFrames(set, peers...)
	}
	if n := len(peers[0].all("group/+").Frames); n != 300 {
		c.Errorf("%d messages of 300", n)
	}
}

func realTimeOfPeers(c *cluster) {
	a, b := c.two()
	type call struct {
		began, ended int64
		seq          store.Seq
	}
	const rounds = 50
	var ticks atomic.Int64
	calls := make([]call, 4*rounds)
	writers(4, rounds, func(w, r int) {
		began := ticks.Add(1)
		seq := []*peer{a, b}[w%2].add(text("a", "x"))
		calls[w*rounds+r] = call{began, ticks.Add(1), seq}
	})
	for _, x := range calls {
		for _, y := range calls {
			if x.ended < y.began && x.seq >= y.seq {
				c.Fatalf("%d was returned before the Append of %d began", x.seq, y.seq)
			}
		}
	}
}

func ownAppends(c *cluster) {
	a, b := c.two()
	f := a.follow()
	for i := range 100 {
		b.add(text("b", "x"))
		list := []*store.Message{text("a", fmt.Sprint(i))}
		if i%3 == 0 {
			list = append(list, retain("a", "more"))
		}
		id := a.put(list, plain("k", fmt.Sprint(i)))
		frames := a.read(store.Query{Select: filters("a"), After: id.Seq - 1}).Frames
		if len(frames) != len(list) || a.newest() < id.Seq {
			c.Fatalf("%d messages of %d can be read, the newest is %d", len(frames), len(list), a.newest())
		}
		if notes := f.all(); len(notes) != i+1 || string(a.note("k").Value) != fmt.Sprint(i) {
			c.Fatalf("%d notes of %d, the newest is %q", len(notes), i+1, a.note("k").Value)
		}
	}
}

func laterHub(c *cluster) {
	a, b := c.two()
	for i := range 300 {
		p := []*peer{a, b}[i%2]
		p.add(text(fmt.Sprint("group/", i%5), fmt.Sprint(i)))
		if i%10 == 0 {
			p.put([]*store.Message{retain(fmt.Sprint("kept/", i%20), fmt.Sprint(i))}, plain(fmt.Sprint("note/", i%30), fmt.Sprint(i)))
		}
	}
	a.policy("group/1", store.Policy{MaxMessages: 7})
	b.meets(a)
	a.meets(b)
	later := c.hub()
	c.sameFrames("#", a, b, later)
	c.sameFrames("group/1", a, b, later)
	for _, p := range []*peer{b, later} {
		if got, want := fmt.Sprint(p.retained("#")), fmt.Sprint(a.retained("#")); got != want {
			c.Errorf("retained are %s, want %s", got, want)
		}
		if got, want := fmt.Sprint(p.notes()), fmt.Sprint(a.notes()); got != want {
			c.Errorf("the notes are %s, want %s", got, want)
		}
		if got, want := p.Policy(filters("group/1")[0]), a.Policy(filters("group/1")[0]); got != want {
			c.Errorf("the policy is %+v, want %+v", got, want)
		}
	}
	later.appendTexts("group/1", "more")
	later.meets(a)
	c.sameFrames("group/1", a, later)
}

func samePolicies(c *cluster) {
	a, b := c.two()
	for i := range 100 {
		[]*peer{a, b}[i%2].add(text([]string{"a", "b", "a/x"}[i%3], fmt.Sprint(i)))
	}
	b.add(retain("b", "kept"))
	a.policy("a", store.Policy{MaxMessages: 5})
	b.policy("a/#", store.Policy{MaxMessages: 9})
	if err := b.Purge("b"); err != nil {
		c.Fatal(err)
	}
	a.meets(b)
	b.meets(a)
	c.sameFrames("#", a, b)
	for _, p := range []*peer{a, b} {
		if x, y, z := len(p.all("a").Frames), len(p.all("a/x").Frames), len(p.all("b").Frames); x != 5 || y != 9 || z != 0 {
			c.Errorf("%d, %d and %d messages are held, want 5, 9 and 0", x, y, z)
		}
		wantTexts(c, p.retained("#"), "")
	}
	for _, set := range []string{"a", "a/#", "b", "a b a/x", "$meet"} {
		c.sameFrames(set, a, b)
	}
	a.appendNumbers("a", 1, 20)
	a.policy("a", store.Policy{})
	a.appendNumbers("a", 21, 30)
	a.meets(b)
	c.sameFrames("a a/#", a, b)
}

func closedPeer(c *cluster) {
	a, b := c.two()
	f := b.follow()
	a.put([]*store.Message{text("a", "1")}, plain("k", "1"))
	a.meets(b)
	if err := a.Close(); err != nil {
		c.Fatal(err)
	}
	b.put([]*store.Message{text("a", "2")}, plain("k", "2"))
	b.want("a", "1 2")
	if list := f.all(); len(list) != 2 {
		c.Errorf("notes %v", list)
	}
	again := c.hub()
	again.want("a", "1 2")
	again.appendTexts("a", "3")
	again.meets(b)
	b.want("a", "1 2 3")
}

func closedShared(c *cluster) {
	a := c.hub()
	a.put(nil, plain("k", "1"))
	if err := a.Close(); err != nil {
		c.Fatal(err)
	}
	if _, err := a.AppendNoted(context.Background(), nil, plain("k", "2")); !errors.Is(err, store.ErrClosed) {
		c.Errorf("AppendNoted: %v", err)
	}
	if _, err := a.Append(context.Background(), entries(text("a", "x"))); !errors.Is(err, store.ErrClosed) {
		c.Errorf("Append: %v", err)
	}
	if err := a.Notes(func(store.Note) error { return nil }); !errors.Is(err, store.ErrClosed) {
		c.Errorf("Notes: %v", err)
	}
	if err := a.Follow(func(store.Note) {}); !errors.Is(err, store.ErrClosed) {
		c.Errorf("Follow: %v", err)
	}
}
