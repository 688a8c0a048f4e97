package jetstream

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// SetPolicy implements store.Keeper. The policy is a note, which all hubs apply at the same position.
func (l *Log) SetPolicy(f group.Filter, p store.Policy) error {
	n := store.Note{Key: policyKeys + f.String()}
	if p != (store.Policy{}) {
		if !l.notes.hasRoomForPolicy(n.Key) {
			return store.ErrTooManyPolicies
		}
		var err error
		if n.Value, err = json.Marshal(p); err != nil {
			return err
		}
	}
	_, err := l.AppendNoted(context.Background(), nil, n)
	return err
}

func (t *noteTable) hasRoomForPolicy(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, known := t.notes[key]
	return t.policies < store.MaxPolicies || known && !v.removed
}

func (l *Log) applyPolicy(r *record) {
	f, err := group.ParseFilter(strings.Clone(r.key[len(policyKeys):]))
	var p store.Policy
	if err == nil && !r.is(isRemoval) {
		err = json.Unmarshal(r.value, &p)
	}
	if err == nil {
		err = l.mem.Load().SetPolicy(f, p)
	}
	if err != nil && !l.closed.Load() {
		l.opts.Logger.Error("a policy of the stream is not applied", "note", r.key, "error", err)
	}
}

// Policy implements store.Keeper.
func (l *Log) Policy(f group.Filter) store.Policy { return l.mem.Load().Policy(f) }

// Purge implements store.Keeper. It is a note, which all hubs apply at the same position.
func (l *Log) Purge(name string) error {
	if l.closed.Load() {
		return store.ErrClosed
	}
	if !l.holds(name) {
		return nil
	}
	_, err := l.AppendNoted(context.Background(), nil, store.Note{Key: evictKeys + name, Value: []byte(`{"through":0}`)})
	return err
}

// holds reports whether a group has messages, or a retained one.
func (l *Log) holds(name string) bool {
	page, _ := l.mem.Load().Groups(store.GroupQuery{Prefix: name, Limit: 1})
	return len(page) > 0 && page[0].Group == name
}

func (l *Log) applyEviction(r *record) {
	name := strings.Clone(r.key[len(evictKeys):])
	if err := l.mem.Load().Purge(name); err != nil && !l.closed.Load() {
		l.opts.Logger.Error("a purge is not applied", "group", name, "error", err)
	}
}

// Groups implements store.Keeper.
func (l *Log) Groups(q store.GroupQuery) (page []store.GroupInfo, next string) {
	return l.mem.Load().Groups(q)
}

// Usage implements store.Keeper.
func (l *Log) Usage() store.Usage { return l.mem.Load().Usage() }
