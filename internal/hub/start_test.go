package hub

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/sharedtest"
)

// TestAHubStartsThoughItsLogIsAwayAtFirst starts a hub on a shared log that is cut off for longer than an append waits.
func TestAHubStartsThoughItsLogIsAwayAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := sharedtest.New().Open()
		log.Cut()
		time.AfterFunc(20*time.Second, log.Heal)
		h, err := start(log, Defaults(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
}
