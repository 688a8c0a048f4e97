//go:build !windows

package logs

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestAMessageThatTheServersRefuseForItsSizeIsNotSent appends messages above a limit, alone and in a batch. Nothing of
// them reaches the servers, and the error says the limit.
func TestAMessageThatTheServersRefuseForItsSizeIsNotSent(t *testing.T) {
	url := servers.ForTest(t, 1, "max_payload: 64KB").URL()
	admin := connect(t, url)
	o := jetstream.Options{URL: url, Stream: newStream()}
	a := open(t, o)
	small, large := text("x", "small"), text("x", strings.Repeat("x", 1<<16))
	refused := func(limit string, large store.Entry) {
		t.Helper()
		sub, err := admin.nc.SubscribeSync("wb." + o.Stream + ".m.>")
		must(t, err)
		must(t, admin.nc.Flush())
		for _, list := range [][]store.Entry{{large}, {small, large}, {large, small}, {small, large, small}} {
			if _, err := a.Append(t.Context(), list); !errors.Is(err, store.ErrTooLarge) || !strings.Contains(err.Error(), limit) {
				t.Errorf("%d messages: %v, want %s", len(list), err, limit)
			}
		}
		add(t, a, small, small)
		must(t, admin.nc.Flush())
		if n, _, err := sub.Pending(); n != 2 || err != nil {
			t.Errorf("the server has got %d messages, want the 2 that it takes (%v)", n, err)
		}
		must(t, sub.Unsubscribe())
	}
	refused("max_payload of the NATS servers is 65536", large)

	s, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	config := s.CachedInfo().Config
	config.MaxMsgSize = 4000
	_, err = admin.UpdateStream(t.Context(), config)
	must(t, err)
	large = text("x", strings.Repeat("x", 5000))
	eventually(t, "the log knows the new limit", func() bool {
		_, err := a.Append(t.Context(), []store.Entry{small, large, small})
		return err != nil && strings.Contains(err.Error(), "max_msg_size")
	})
	refused("max_msg_size of the stream is 4000", large)
}

// TestABatchHasAtMostAThousandMessages asks for the limit in the error.
func TestABatchHasAtMostAThousandMessages(t *testing.T) {
	a := open(t, jetstream.Options{URL: servers.ForTest(t, 1).URL(), Stream: newStream()})
	list := make([]store.Entry, 1001)
	for i := range list {
		list[i] = text("x", "y")
	}
	if _, err := a.Append(t.Context(), list); !errors.Is(err, store.ErrTooLarge) || !strings.Contains(err.Error(), "1000") {
		t.Errorf("1001 messages: %v", err)
	}
	add(t, a, list[1:]...)
}

// TestANoteThatIsTooLargeForANewStreamDoesNotHoldUpTheOthers replaces the stream by one that takes smaller messages only.
func TestANoteThatIsTooLargeForANewStreamDoesNotHoldUpTheOthers(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin, log := connect(t, url), &logText{}
	o := jetstream.Options{URL: url, Stream: newStream(), Logger: log.logger()}
	a := open(t, o)
	for i := range 10 {
		_, err := a.AppendNoted(t.Context(), nil, store.Note{Key: fmt.Sprint("note", i), Value: make([]byte, 10+i/9*50_000)})
		must(t, err)
	}
	s, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	config := s.CachedInfo().Config
	config.MaxMsgSize = 40_000
	before, _ := end(a)
	must(t, admin.DeleteStream(t.Context(), o.Stream))
	_, err = admin.CreateStream(t.Context(), config)
	must(t, err)
	eventually(t, "a new epoch", func() bool { epoch, _ := end(a); return epoch != before })
	kept := func() (n int) {
		must(t, a.Notes(func(store.Note) error { n++; return nil }))
		return n
	}
	eventually(t, "the other notes are stored again", func() bool { return kept() == 9 })
	eventually(t, "the hub says which is not", func() bool { return log.has("note9") })
	add(t, a, text("x", "later"))
	_, since, _ := strings.Cut(log.String(), "a new epoch begins") // before, the janitor may find a stream that takes less than it knows
	if strings.Count(since, "note9") != 1 || strings.Contains(since, "not cleaned up") {
		t.Errorf("want one line about note9: %s", log)
	}
}
