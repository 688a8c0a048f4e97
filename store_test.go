package watchbox_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

func TestAHubKeepsItsMessagesInTheStoreOfTheProgram(t *testing.T) {
	var log *memory.Log
	hub, err := watchbox.New(
		watchbox.WithMaxGroups(7), watchbox.WithMaxMessages(3), watchbox.WithDataDir(t.TempDir()),
		watchbox.WithStore(func(o watchbox.StoreOptions) (store.Store, error) {
			if o.MaxGroups != 7 || o.Server.MaxMessages != 3 || o.MaxMemory <= 0 {
				t.Errorf("the store's options are %+v", o)
			}
			log = memory.New(memory.Options{MaxMemory: o.MaxMemory, MaxGroups: o.MaxGroups, Server: o.Server})
			return log, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	id, err := hub.Publish(t.Context(), "foo", "hello")
	if _, newest := log.Bounds(); err != nil || newest.String() != id {
		t.Errorf("published %s, %v; the store ends at %v", id, err, newest)
	}
	if err := hub.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("the hub has closed the store: %v", err)
	}
}

func TestAStoreThatCannotBeOpenedIsAnError(t *testing.T) {
	hub, err := watchbox.New(watchbox.WithStore(func(watchbox.StoreOptions) (store.Store, error) {
		return nil, errors.New("no tape in the drive")
	}))
	if err == nil {
		_ = hub.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "no tape in the drive") {
		t.Errorf("New: %v", err)
	}
}
