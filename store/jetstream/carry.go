package jetstream

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// When the stream is made anew or restored from a backup, a new epoch begins. Its messages are lost, but the hubs still
// know the notes: policies, revocations and sessions. They store again those that the stream does not have, or has in an
// older version.

// carryLate is how long a hub waits before it stores notes again, unless it is the first one.
const carryLate = 3 * time.Second

// carried reports whether a note of another epoch is stored again: the log's own notes speak of the messages, except
// policies.
func carried(key string) bool { return !isOwn(key) || strings.HasPrefix(key, policyKeys) }

// leaveBehind keeps the notes of an epoch that has ended. t.mu is held.
func (t *noteTable) leaveBehind() {
	if t.behind == nil {
		t.behind = map[string]version{}
	}
	maps.Copy(t.behind, t.notes)
	maps.DeleteFunc(t.behind, func(key string, _ version) bool { return !carried(key) })
	t.renewed = time.Now()
}

// missing returns the notes to store again. It forgets the others: a version that was stored in this epoch is newer.
func (t *noteTable) missing(first bool) (list []store.Note) {
	t.mu.Lock()
	defer t.mu.Unlock()
	epoch, ok := t.notes[epochKey]
	if len(t.behind) == 0 || !ok || !first && time.Since(t.renewed) < carryLate {
		return nil
	}
	for key, old := range t.behind {
		now, ok := t.notes[key]
		if ok && (now.at > epoch.at || now.number >= old.number) || !ok && old.removed {
			delete(t.behind, key)
			continue
		}
		n := old.note(key)
		n.At, n.Guarded = now.at, true
		list = append(list, n)
	}
	return list
}

// carry stores the missing notes again. What fails is tried again in the next turn.
func (l *Log) carry(ctx context.Context, first bool) error {
	list := l.notes.missing(first)
	if len(list) > 0 {
		l.opts.Logger.Info("policies, revocations and sessions are stored again in the new stream", "notes", len(list))
	}
	return l.store(ctx, list, appendOptions{})
}
