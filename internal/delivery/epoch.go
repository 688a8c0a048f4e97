package delivery

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/watchbox-go/watchbox/store"
)

// A log that several hubs share begins another epoch if its stream was deleted, or restored from an older backup. The positions of
// open streams mean nothing in it. So each stream knows the epoch of its position, and compares it with that of every batch.

// epochs numbers the epochs of the log, because a number takes less memory in each stream.
type epochs struct {
	list atomic.Pointer[[]string] // by number
}

// number returns the number of an epoch.
func (e *epochs) number(name string) uint32 {
	for {
		old := e.list.Load()
		var list []string
		if old != nil {
			list = *old
		}
		if i := slices.Index(list, name); i >= 0 {
			return uint32(i)
		}
		list = append(slices.Clone(list), name)
		if e.list.CompareAndSwap(old, &list) {
			return uint32(len(list) - 1)
		}
	}
}

func (e *epochs) name(number uint32) string { return (*e.list.Load())[number] }

// Epoch returns the epoch of the stream's position. That of a stream with a codec never changes.
func (s *Stream) Epoch() string { return s.shard.set.epochs.name(s.epoch.Load()) }

// errRenewed is returned by a read of a log whose epoch is not the one of the stream's position.
var errRenewed = errors.New("the log has begun another epoch")

// readAs is Read, for a stream.
func (s *Stream) readAs(q store.Query, b *store.Batch) error {
	err := s.shard.set.log.Read(q, b)
	if err == nil && b.Epoch != s.Epoch() {
		return errRenewed
	}
	return err
}

// renew makes the stream get everything of another epoch, after a gap event. A stream with a codec ends: its client may have messages
// on their way that are known by their positions.
func (s *Stream) renew(epoch string) {
	s.live = false
	if s.view.codec != nil {
		s.End(Reason(GapEpoch))
		return
	}
	unknown := store.ID{Epoch: s.Epoch(), Seq: s.pos}.String()
	if s.opening != nil {
		unknown = cmp.Or(s.opening.unknown, unknown)
	}
	var changes []change
	s.edit(func(list []change) []change {
		changes = list
		return nil
	})
	for _, c := range changes {
		s.filters = c.apply(s.filters)
	}
	s.pos, s.skip, s.far, s.lossReported = 0, false, false, 0
	s.mark.Store(0)
	s.opening = &opening{held: true, unknown: unknown}
	s.epoch.Store(s.shard.set.epochs.number(epoch))
}

// recallAll makes all parked streams follow, because the log has begun another epoch.
func (sh *shard) recallAll() {
	for sh.parked > 0 {
		sh.recall(sh.all[sh.parked-1])
	}
}
