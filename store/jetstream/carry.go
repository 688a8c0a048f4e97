package jetstream

import (
	"context"
	"errors"
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
	for len(list) > 0 {
		n := min(len(list), maxBatch/4)
		_, err := l.AppendNoted(ctx, nil, list[:n]...)
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrTooLarge) {
			err = l.carryEach(ctx, list[:n])
		}
		if err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// carryEach stores notes one by one, except those that have changed meanwhile, or for which a limit is too low now.
func (l *Log) carryEach(ctx context.Context, list []store.Note) error {
	for _, n := range list {
		switch _, err := l.AppendNoted(ctx, nil, n); {
		case errors.Is(err, store.ErrTooLarge):
			l.opts.Logger.Error("a note is too large for the new stream: it is not stored again", "note", n.Key, "error", err)
			l.notes.abandon(n.Key)
		case err != nil && !errors.Is(err, store.ErrConflict):
			return err
		}
	}
	return nil
}

// abandon forgets a note of an earlier epoch.
func (t *noteTable) abandon(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.behind, key)
}
