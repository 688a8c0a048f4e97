//go:build !windows

package logs

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestALogWithoutRoomRefusesMessagesUntilThereIsSome fills streams up to each limit that an operator can set. All logs
// refuse messages then, take notes and purges, and take messages again once others are purged.
func TestALogWithoutRoomRefusesMessagesUntilThereIsSome(t *testing.T) {
	const full = 2 << 20
	limited := func(t *testing.T, change func(*js.StreamConfig)) string {
		s := servers.ForTest(t, 1)
		admin := connect(t, s.URL())
		must(t, open(t, jetstream.Options{URL: s.URL()}).Close())
		stream, err := admin.Stream(t.Context(), jetstream.DefaultStream)
		must(t, err)
		config := stream.CachedInfo().Config
		change(&config)
		_, err = admin.UpdateStream(t.Context(), config)
		must(t, err)
		return s.URL()
	}
	for name, start := range map[string]func(*testing.T) string{
		"max_bytes of the stream": func(t *testing.T) string {
			return limited(t, func(c *js.StreamConfig) { c.MaxBytes, c.Discard = full, js.DiscardNew })
		},
		"max_file of the account": func(t *testing.T) string {
			return as("hub", servers.ForTest(t, 1, fmt.Sprintf("accounts { A: { jetstream: { max_file: %d }, users: [{ user: hub, password: secret }] } }", full)).URL())
		},
		"max_file_store of the server": func(t *testing.T) string {
			return servers.ForTest(t, 1, fmt.Sprintf("jetstream { store_dir: \"{dir}\", max_file_store: %d }", full)).URL()
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := jetstream.Options{URL: start(t)}
			a, b := open(t, o), open(t, o)
			for round := range 2 {
				for _, l := range []*jetstream.Log{a, b} {
					// The janitor may find a little room for a moment, which is filled then.
					eventually(t, "both logs say that there is no room, and refuse also a small message", func() bool {
						fill(t, a)
						_, err := l.Append(t.Context(), []store.Entry{text("x", "small")})
						return errors.Is(err, store.ErrFull) && errors.Is(l.Err(), store.ErrFull)
					})
				}
				c := open(t, o) // a hub can start
				eventually(t, "a log that is opened says so, too", func() bool {
					fill(t, a)
					return errors.Is(c.Err(), store.ErrFull)
				})
				// The reserve may be in use by another note at this moment: a hub tries again, too.
				eventually(t, "there is room for a note", func() bool {
					_, err := b.AppendNoted(t.Context(), nil, store.Note{Key: "note", Value: []byte{byte(round)}})
					return err == nil
				})
				eventually(t, "the group is purged", func() bool { return b.Purge("x") == nil })
				eventually(t, "the messages are removed from the stream", func() bool { return b.Err() == nil && read(t, b, "x", 0).n == 0 })
				for _, l := range []*jetstream.Log{a, b, c} {
					eventually(t, "messages are taken again", func() bool { return l.Err() == nil })
					add(t, l, text("y", "later"))
				}
				must(t, c.Close())
			}
		})
	}
}

// fill appends messages of 10 kB until there is no room.
func fill(t *testing.T, l *jetstream.Log) {
	t.Helper()
	eventually(t, "there is no room", func() bool {
		_, err := l.Append(t.Context(), []store.Entry{text("x", strings.Repeat("x", 10_000))})
		if err != nil && !errors.Is(err, store.ErrFull) {
			t.Errorf("a message is refused: %v", err)
		}
		return err != nil
	})
}
