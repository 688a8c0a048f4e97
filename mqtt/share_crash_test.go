package mqtt

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/sharedtest"
	"github.com/watchbox-go/watchbox/store"
)

// crashable returns two servers whose hubs share a log, and kills the first one.
func crashable(t *testing.T) (a, b *rig, kill func()) {
	shared := sharedtest.New()
	a, b = &rig{T: t}, &rig{T: t}
	log := shared.Open()
	a.begin(log)
	b.begin(shared.Open())
	t.Cleanup(b.end)
	t.Cleanup(a.end)
	return a, b, log.Kill
}

func TestMessagesOfQoS0OfAShareAreNotRepeatedAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, kill := crashable(t)
		c := a.connect(options{id: "c", expiry: -1})
		c.subscribe(sub("$share/s/g", 0))
		for i := range 20 {
			a.say(strconv.Itoa(i))
		}
		for i := range 20 {
			c.message(strconv.Itoa(i))
		}
		time.Sleep(2 * time.Second) // the position is written
		kill()
		time.Sleep(time.Minute)
		d := b.connect(options{id: "d"})
		d.subscribe(sub("$share/s/g", 1))
		b.say("new")
		d.message("new")
	})
}

// fullLog is the log of a hub that is alone. It may be full.
type fullLog struct {
	store.Store
	store.Noter
	full atomic.Bool
}

func (l *fullLog) AppendNoted(ctx context.Context, entries []store.Entry, notes ...store.Note) (store.ID, error) {
	if l.full.Load() {
		return store.ID{}, store.ErrFull
	}
	return l.Noter.AppendNoted(ctx, entries, notes...)
}

func TestAMemberThatReturnsWhileTheLogIsFullGetsMessagesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := sharedtest.New().Open()
		log := &fullLog{Store: shared, Noter: shared}
		r := &rig{T: t}
		r.begin(log)
		defer r.end()
		o := options{id: "c", expiry: -1}
		c := r.connect(o)
		c.subscribe(sub("$share/s/g", 1))
		c.leave()
		time.Sleep(2 * time.Second)
		log.full.Store(true)
		c = r.connect(o)
		time.Sleep(2 * time.Second)
		log.full.Store(false)
		r.say("1")
		c.message("1")
	})
}
