package jetstream

import (
	"cmp"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// Bounds of the appends whose outcome is unknown. A server that was paused stores what it has received when it goes on, however late
// that is. So only memory bounds how long an append is remembered. The oldest one is the least likely to be stored.
const (
	maxUnsettled      = 10_000
	maxUnsettledBytes = 32 << 20 // of their records; what their callers keep is about as large
	unsettledFor      = time.Hour
)

// unsettled has appends that have returned store.ErrUnknownOutcome, sorted by number: the oldest first.
type unsettled struct {
	list  []later
	bytes int
}

// later is an append whose caller wants to know if it is stored after all.
type later struct {
	number uint64
	bytes  int
	since  time.Time
	stored func(first store.ID)
}

// add adds an append. Those that the bounds do not allow any more are forgotten.
func (u *unsettled) add(a later) {
	i, _ := u.find(a.number)
	u.list = slices.Insert(u.list, i, a)
	u.bytes += a.bytes
	for len(u.list) > maxUnsettled || len(u.list) > 1 && u.bytes > maxUnsettledBytes {
		u.remove(0)
	}
}

// take removes an append and returns its function, or nil if there is none.
func (u *unsettled) take(number uint64) func(store.ID) {
	i, ok := u.find(number)
	if !ok {
		return nil
	}
	return u.remove(i).stored
}

// sweep forgets the appends that were added too long ago.
func (u *unsettled) sweep(now time.Time) {
	for len(u.list) > 0 && now.Sub(u.list[0].since) > unsettledFor {
		u.remove(0)
	}
}

func (u *unsettled) find(number uint64) (i int, ok bool) {
	return slices.BinarySearchFunc(u.list, number, func(a later, n uint64) int { return cmp.Compare(a.number, n) })
}

func (u *unsettled) remove(i int) later {
	a := u.list[i]
	u.list = slices.Delete(u.list, i, i+1)
	u.bytes -= a.bytes
	return a
}
