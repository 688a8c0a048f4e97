package delivery_test

import (
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// told returns the gaps and messages that a listener has received, separated by blanks.
func (l *listener) told() string {
	var list []string
	for _, b := range l.blocks() {
		switch {
		case b.event == "gap":
			_, reason, _ := strings.Cut(b.data, `"reason":`)
			list = append(list, "gap:"+strings.Trim(reason, `"}`))
		case b.data != "":
			_, msg, _ := strings.Cut(b.data, `"msg":`)
			list = append(list, strings.Trim(msg, `"}`)[:1])
		}
	}
	return strings.Join(list, " ")
}

// TestOpenStreamsAreToldOfAnotherEpoch has the log begin another epoch while streams are open. Each of them gets one gap and then all of
// that epoch, however far the positions of both have come.
func TestOpenStreamsAreToldOfAnotherEpoch(t *testing.T) {
	for name, c := range map[string]struct {
		before func(r *rig, l *listener)
		after  func(r *rig, l *listener)
		want   string // what the last messages are
	}{
		"it is parked": {want: "1 2 gap:epoch a b c d"},
		"its client does not read": {
			before: func(r *rig, l *listener) { r.stuck(l, "g") },
			after:  func(_ *rig, l *listener) { l.read(true) },
			want:   "1 2 s gap:epoch a b c d",
		},
		"its client does not read, and much is waiting": {
			before: func(r *rig, l *listener) {
				r.stuck(l, "g")
				r.say("g", large)
				r.say("g", large)
			},
			after: func(_ *rig, l *listener) { l.read(true) },
			want:  "1 2 s gap:epoch a b c d",
		},
		"it joins another group": {
			before: func(r *rig, l *listener) {
				r.stuck(l, "g")
				if err := l.stream.Join(filters("h")[0]); err != nil {
					r.t.Fatal(err)
				}
			},
			after: func(r *rig, l *listener) { l.read(true) },
			want:  "1 2 s gap:epoch gap:epoch a b c d",
		},
	} {
		for _, last := range []store.Seq{0, 1, 2, 3, 100} { // of the next epoch, before its messages are published
			t.Run(name, func(t *testing.T) {
				log := memory.New(memory.Options{MaxMemory: 64 << 20})
				r := newRigOf(t, log, false)
				l := r.listen(filters("g"))
				r.say("g", "1")
				r.say("g", "2")
				l.await(t, "the messages of the first epoch", func() bool { return len(l.parser.blocks) == 2 })
				if c.before != nil {
					c.before(r, l)
				}
				log.Reset("another", last)
				for _, text := range []string{"a", "b", "c"} {
					r.say("g", text)
				}
				if c.after != nil {
					c.after(r, l)
				}
				r.say("g", "d")
				count := len(strings.Fields(c.want))
				l.await(t, "the messages of the next epoch", func() bool { return len(l.parser.blocks) >= count })
				if got := l.told(); got != c.want {
					t.Errorf("behind %d, it got %s, want %s", last, got, c.want)
				}
			})
		}
	}
}

// TestAStreamWithACodecEndsWithTheEpoch: what is on its way to the client is known by positions of the old epoch.
func TestAStreamWithACodecEndsWithTheEpoch(t *testing.T) {
	log := memory.New(memory.Options{MaxMemory: 64 << 20})
	r := newRigOf(t, log, false)
	l := r.listen(filters("g"), codec(10))
	r.say("g", "1")
	epoch := r.epoch()
	log.Reset("another", 7)
	if why := l.ended(t); why != delivery.GapEpoch {
		t.Errorf("it ends because of %q", why)
	}
	if got := l.stream.Epoch(); got != epoch {
		t.Errorf("its position is of the epoch %s, want %s", got, epoch)
	}
}
