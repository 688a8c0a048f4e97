package sparse_test

import (
	"testing"

	"github.com/watchbox-go/watchbox/internal/sparse"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
	"github.com/watchbox-go/watchbox/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o storetest.Options) store.Store {
		return sparse.New(memory.Options{MaxMemory: o.MaxMemory, MaxGroups: o.MaxGroups, Server: o.Server})
	})
}
