//go:build !windows

package logs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

const full = 2 << 20

// limits starts a server with each limit that an operator can set, and returns its URL.
var limits = map[string]func(*testing.T) string{
	"max_bytes of the stream": func(t *testing.T) string {
		s := servers.ForTest(t, 1)
		admin := connect(t, s.URL())
		must(t, open(t, jetstream.Options{URL: s.URL()}).Close())
		stream, err := admin.Stream(t.Context(), jetstream.DefaultStream)
		must(t, err)
		config := stream.CachedInfo().Config
		config.MaxBytes, config.Discard = full, js.DiscardNew
		_, err = admin.UpdateStream(t.Context(), config)
		must(t, err)
		return s.URL()
	},
	"max_file of the account": func(t *testing.T) string {
		return as("hub", servers.ForTest(t, 1, fmt.Sprintf("accounts { A: { jetstream: { max_file: %d }, users: [{ user: hub, password: secret }] } }", full)).URL())
	},
	"max_file_store of the server": func(t *testing.T) string {
		return servers.ForTest(t, 1, fmt.Sprintf("jetstream { store_dir: \"{dir}\", max_file_store: %d }", full)).URL()
	},
}

// TestALogWithoutRoomRefusesMessagesUntilThereIsSome fills streams up to each limit that an operator can set. All logs
// refuse messages then, take notes and purges, and take messages again once others are purged.
func TestALogWithoutRoomRefusesMessagesUntilThereIsSome(t *testing.T) {
	for name, start := range limits {
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

// TestRoomIsMadeThoughNotesHaveUsedUpTheReserve fills streams with messages and then with notes, and goes on writing notes. A
// purge makes room nevertheless, and so does a policy.
func TestRoomIsMadeThoughNotesHaveUsedUpTheReserve(t *testing.T) {
	makeRoom := map[string]func(l *jetstream.Log) error{
		"purge":  func(l *jetstream.Log) error { return l.Purge("x") },
		"policy": func(l *jetstream.Log) error { return l.SetPolicy(filters("x")[0], store.Policy{MaxMessages: 5}) },
	}
	for limit, start := range limits {
		for name, free := range makeRoom {
			t.Run(limit+", "+name, func(t *testing.T) {
				o := jetstream.Options{URL: start(t)}
				a, b := open(t, o), open(t, o)
				eventually(t, "there is no room for messages", func() bool {
					fill(t, a)
					return errors.Is(a.Err(), store.ErrFull) && errors.Is(b.Err(), store.ErrFull)
				})
				for _, size := range []int{2000, 1} {
					for i, refused := 0, 0; refused < 3; i++ { // the janitor may find a little room for a moment
						if i > 10*full/2000 {
							t.Fatal("there is room for more notes than the limit allows")
						}
						_, err := a.AppendNoted(t.Context(), nil, store.Note{Key: fmt.Sprint("note/", size, "/", i), Value: make([]byte, size)})
						switch {
						case errors.Is(err, store.ErrFull):
							refused++
						case err != nil:
							t.Fatal(err)
						}
					}
				}
				ctx, stop := context.WithCancel(t.Context())
				var writers sync.WaitGroup
				for w, l := range []*jetstream.Log{a, b, a, b} {
					writers.Go(func() {
						for i := 0; ctx.Err() == nil; i++ {
							<-time.After(5 * time.Millisecond)
							_, _ = l.AppendNoted(ctx, nil, store.Note{Key: fmt.Sprint("more/", w, "/", i%10), Value: make([]byte, 2000)})
						}
					})
				}
				eventually(t, "a hub may make room", func() bool { return free(b) == nil })
				eventually(t, "messages are removed, and others are taken again", func() bool { return b.Err() == nil && read(t, b, "x", 0).n <= 5 })
				stop()
				writers.Wait()
				for _, l := range []*jetstream.Log{a, b} {
					eventually(t, "messages are taken again", func() bool { return l.Err() == nil })
					add(t, l, text("y", "later"))
				}
			})
		}
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
