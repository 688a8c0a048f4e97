package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// SetPolicy implements store.Keeper. The policy is a note, which all hubs apply at the same position.
func (l *Log) SetPolicy(f group.Filter, p store.Policy) error {
	ctx, cancel := l.changing()
	defer cancel()
	if err := l.CatchUp(ctx); err != nil { // another hub may have set or removed it
		return err
	}
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
	if v, ok := l.notes.get(n.Key); ok == (n.Value != nil) && bytes.Equal(v.value, n.Value) {
		return nil // it is so: each hub sets the policies of its configuration when it starts
	}
	_, err := l.AppendNoted(ctx, nil, n)
	return err
}

// changing returns the context of a change that a client waits for. It ends as early as that of an append.
func (l *Log) changing() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.Background(), l.opts.Times.Patience, errLate)
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
		err = l.mem.SetPolicy(f, p)
	}
	if err != nil && !l.closed.Load() {
		l.opts.Logger.Error("a policy of the stream is not applied", "note", r.key, "error", err)
	}
}

// Policy implements store.Keeper.
func (l *Log) Policy(f group.Filter) store.Policy { return l.mem.Policy(f) }

// OwnPolicy implements store.Keeper.
func (l *Log) OwnPolicy(f group.Filter) (own, inherited store.Policy) { return l.mem.OwnPolicy(f) }

// Purge implements store.Keeper. It is a note, which all hubs apply at the same position.
func (l *Log) Purge(name string) error {
	ctx, cancel := l.changing()
	defer cancel()
	epoch := l.epoch()
	if err := l.CatchUp(ctx); err != nil { // other hubs may have answered messages that this one has not read
		return err
	}
	g := l.group(name)
	if g.Messages == 0 && !g.Retained {
		return nil
	}
	now := time.Now()
	_, err := l.markIn(ctx, epoch, []keyedMark{groupMark(mark{
		Eviction: memory.Eviction{Group: name, Through: g.Newest, Time: now}, Retained: l.tail.position(), Written: now,
	})})
	return err
}

// group describes a group.
func (l *Log) group(name string) store.GroupInfo {
	page, _ := l.mem.Groups(store.GroupQuery{Prefix: name, Limit: 1})
	if len(page) == 0 || page[0].Group != name {
		return store.GroupInfo{Group: name}
	}
	return page[0]
}

// Groups implements store.Keeper.
func (l *Log) Groups(q store.GroupQuery) (page []store.GroupInfo, next string) {
	return l.mem.Groups(q)
}

// Usage implements store.Keeper.
func (l *Log) Usage() store.Usage { return l.mem.Usage() }
