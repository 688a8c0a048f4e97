package sharedtest_test

import (
	"testing"

	"github.com/watchbox-go/watchbox/internal/sharedtest"
	"github.com/watchbox-go/watchbox/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.RunShared(t, func(*testing.T) storetest.SharedLog {
		c := sharedtest.New()
		return storetest.SharedLog{
			Open: func(*testing.T) storetest.Peer { return c.Open() },
			Disturbed: func(*testing.T) (storetest.Peer, func()) {
				c.Unknown = 300
				return c.Open(), func() { c.Unknown = 0 }
			},
		}
	})
}
