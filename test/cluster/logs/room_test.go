//go:build !windows

package logs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// TestRoomIsMadeThoughNotesHaveUsedUpTheReserve fills streams with messages and then with notes, which two logs write as fast as
// they can, and go on. A purge makes room nevertheless, and so do a policy and notes that are removed.
func TestRoomIsMadeThoughNotesHaveUsedUpTheReserve(t *testing.T) {
	for limit, start := range limits {
		for name, makeRoom := range map[string]func(*jetstream.Log, *notes) error{
			"purge": func(l *jetstream.Log, _ *notes) error { return l.Purge("x") },
			"policy": func(l *jetstream.Log, _ *notes) error {
				return l.SetPolicy(filters("x")[0], store.Policy{MaxMessages: 5})
			},
			"notes": func(l *jetstream.Log, n *notes) error { return n.remove(t.Context(), l) },
		} {
			t.Run(limit+", "+name, func(t *testing.T) {
				o := jetstream.Options{URL: start(t)}
				a, b := open(t, o), open(t, o)
				for i := range 20 {
					add(t, b, text("kept", fmt.Sprint(i)))
				}
				all := 0
				eventually(t, "there is no room for messages", func() bool {
					all += fill(t, a)
					return errors.Is(a.Err(), store.ErrFull) && errors.Is(b.Err(), store.ErrFull)
				})
				written := notes{}
				eventually(t, "there is no room for notes", func() bool { return written.fill(t, a, b) })
				ctx, stop := context.WithCancel(t.Context())
				var writers sync.WaitGroup
				defer writers.Wait()
				defer stop()
				for w, l := range []*jetstream.Log{a, b, a, b} {
					writers.Go(func() {
						for i := 0; ctx.Err() == nil; i++ {
							n := store.Note{Key: fmt.Sprint("more/", w, "/", i%10), Value: make([]byte, rand.N(100))} // the share has room for those on their way
							if _, err := l.AppendNoted(ctx, nil, n); err != nil {
								<-time.After(time.Millisecond)
							}
						}
					})
				}

				eventually(t, "a hub may make room", func() bool { return makeRoom(b, &written) == nil })
				eventually(t, "there is room for notes", func() bool {
					_, err := b.AppendNoted(t.Context(), nil, store.Note{Key: "new", Value: []byte("value")})
					return err == nil
				})
				if name != "notes" { // those leave as much room as the reserve had
					eventually(t, "messages are removed, and others are taken again", func() bool { return b.Err() == nil && read(t, b, "x", 0).n <= 5 })
				}
				stop()
				writers.Wait()
				c := open(t, o)
				for _, l := range []*jetstream.Log{a, b, c} {
					if name != "notes" {
						eventually(t, "messages are taken again", func() bool { return l.Err() == nil })
						add(t, l, text("y", "later"))
					}
					if h := read(t, l, "kept", 0); h.n != 20 || h.gap > 0 {
						t.Errorf("of 20 messages that nobody has removed: %v", h)
					}
					if h := read(t, l, "x", 0); h.n != all && h.gap == 0 {
						t.Errorf("of %d messages: %v", all, h)
					}
					written.check(t, l)
				}
			})
		}
	}
}

// notes are those that were written, by key.
type notes map[string]int

// fill writes notes to two logs at once until there is no room even for small ones. It reports whether both logs say so.
func (n *notes) fill(t *testing.T, logs ...*jetstream.Log) bool {
	var mu sync.Mutex
	var writers sync.WaitGroup
	refused := 0
	for _, l := range append(logs, logs...) {
		writers.Go(func() {
			for _, most := range []int{2000, 10} {
				for {
					key, size := fmt.Sprint("note/", rand.Uint64()), 1+rand.N(most)
					_, err := l.AppendNoted(t.Context(), nil, store.Note{Key: key, Value: make([]byte, size)})
					mu.Lock()
					switch {
					case err == nil:
						(*n)[key] = size
					case errors.Is(err, store.ErrFull):
						refused++
					case !errors.Is(err, store.ErrUnknownOutcome): // the server may be slow
						t.Error(err)
					}
					mu.Unlock()
					if err != nil {
						break
					}
				}
			}
		})
	}
	writers.Wait()
	return refused == 2*len(logs)*2 && len(*n) > 0
}

// remove removes the notes.
func (n *notes) remove(ctx context.Context, l *jetstream.Log) error {
	for key := range *n {
		if _, err := l.AppendNoted(ctx, nil, store.Note{Key: key}); err != nil {
			return err
		}
		delete(*n, key)
	}
	return nil
}

// check expects the log to have all notes.
func (n *notes) check(t *testing.T, l *jetstream.Log) {
	t.Helper()
	found := 0
	must(t, l.Notes(func(note store.Note) error {
		if size, ok := (*n)[note.Key]; ok && size == len(note.Value) {
			found++
		}
		return nil
	}))
	if found != len(*n) {
		t.Errorf("of %d notes, %d are there", len(*n), found)
	}
}

// fill appends messages of 10 kB until there is no room. It returns how many.
func fill(t *testing.T, l *jetstream.Log) (n int) {
	t.Helper()
	eventually(t, "there is no room", func() bool {
		_, err := l.Append(t.Context(), []store.Entry{text("x", strings.Repeat("x", 10_000))})
		if err != nil && !errors.Is(err, store.ErrFull) {
			t.Errorf("a message is refused: %v", err)
		}
		if err == nil {
			n++
		}
		return err != nil
	})
	return n
}
