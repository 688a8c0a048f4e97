package hub_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
	"github.com/watchbox-go/watchbox/store/memory"
	"github.com/watchbox-go/watchbox/store/tiered"
)

// remembered is how many answers the hubs of these tests keep.
const remembered = 100

// keyedHub is a hub to publish to with idempotency keys.
type keyedHub struct {
	testing.TB
	*hub.Hub
}

func newKeyedHub(t testing.TB, log store.Store) *keyedHub {
	t.Helper()
	o := hub.Defaults()
	o.IdempotencyKeys = remembered
	h, err := hub.New(log, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return &keyedHub{t, h}
}

// post publishes a JSON value and reports whether the hub replayed an earlier answer.
func (h *keyedHub) post(key, body string) (replayed bool, err error) {
	r, err := h.Publish(context.Background(), &hub.Publication{Grant: access.Everything, Group: "g", Kind: hub.JSON, Body: []byte(body), Key: key})
	return r.Replayed, err
}

// wants publishes "1" with a key. It fails the test unless replayed says whether the answer is a replay.
func (h *keyedHub) wants(replayed bool, key string) {
	h.Helper()
	if got, err := h.post(key, "1"); err != nil || got != replayed {
		h.Errorf("%s: replayed %t, %v; want %t", key, got, err, replayed)
	}
}

func openDisk(t testing.TB, dir string) store.Store {
	t.Helper()
	log, err := tiered.Open(disk.Options{Dir: dir, Fsync: disk.Never})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// TestTheNewestAnswersAreRemembered checks that exactly the promised number of answers is kept, and that
// failed requests take no slots.
func TestTheNewestAnswersAreRemembered(t *testing.T) {
	for name, log := range map[string]store.Store{"memory": memory.New(memory.Options{}), "disk": openDisk(t, t.TempDir())} {
		t.Run(name, func(t *testing.T) {
			h := newKeyedHub(t, log)
			if _, err := h.post("first", "{"); err == nil {
				t.Error("an incomplete object was published")
			}
			for i := range remembered - 5 {
				h.wants(false, fmt.Sprint("before/", i))
			}
			h.wants(false, "first")
			for i := range remembered - 1 {
				h.wants(false, fmt.Sprint("after/", i))
				for range 3 {
					if _, err := h.post(fmt.Sprint("fails/", i), "{"); err == nil {
						t.Error("an incomplete object was published")
					}
				}
			}
			h.wants(true, "first")
			h.wants(false, "one more")
			h.wants(false, "first")
			if n := h.Stats().Keys; n != remembered {
				t.Errorf("%d answers are remembered, want %d", n, remembered)
			}
		})
	}
}

// TestTheNewestAnswersAreRememberedOverARestart also checks that the store keeps one note for each answer.
func TestTheNewestAnswersAreRememberedOverARestart(t *testing.T) {
	dir := t.TempDir()
	h := newKeyedHub(t, openDisk(t, dir))
	for i := range 3 * remembered / 2 {
		h.wants(false, fmt.Sprint("a/", i))
	}
	for round := range 3 {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		log := openDisk(t, dir)
		if n := notes(t, log); n != remembered {
			t.Errorf("the store has %d notes, want %d", n, remembered)
		}
		h = newKeyedHub(t, log)
		from := 3*remembered/2 - remembered + round // each round below forgets one more
		h.wants(true, fmt.Sprint("a/", from))
		h.wants(true, fmt.Sprint("a/", 3*remembered/2-1))
		h.wants(false, fmt.Sprint("b/", round))
		h.wants(true, fmt.Sprint("a/", from+1))
	}
	h.wants(true, "b/0")
	h.wants(false, fmt.Sprint("a/", remembered/2)) // forgotten, so it is published again
}

func notes(t testing.TB, log store.Store) (n int) {
	t.Helper()
	err := log.(store.Noter).Notes(func(store.Note) error { n++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}
