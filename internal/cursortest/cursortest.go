package cursortest

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/leak"
	"github.com/watchbox-go/watchbox/store"
)

// Log is a log for one test. Open opens it. A log that one hub uses at a time is opened again when the previous hub has
// closed it, and a store.Shared once for each hub. Without Open, positions live as long as the process.
type Log struct {
	Open func() store.Noter
}

// test is a promise in words, and the function that tests it.
type test struct {
	name string
	run  func(r *rig)
}

// Run tests sets on the logs that newLog returns, with one hub at a time.
func Run(t *testing.T, newLog func(t testing.TB) Log) { run(t, newLog, aloneTests) }

// RunShared tests sets on the logs that newLog returns, which must be store.Shared, with several hubs each.
func RunShared(t *testing.T, newLog func(t testing.TB) Log) { run(t, newLog, sharedTests) }

func run(t *testing.T, newLog func(t testing.TB) Log, tests []test) {
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			t.Cleanup(func() {
				if !t.Failed() {
					leak.None(t, before)
				}
			})
			c.run(&rig{T: t, log: newLog(t), expired: map[string]int{}})
		})
	}
}

const (
	patience = time.Minute          // how long a test waits for an event
	interval = 2 * time.Millisecond // between two writes
)

// epoch is the one of positions in tests.
const epoch = "epoch1"

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !holds(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("it did not happen: %s", what)
		}
	}
}

// pos returns a position whose parts all follow from its number, so that a mixture of two is noticed.
func pos(key string, n int) *cursor.Position {
	p := &cursor.Position{Key: key, Epoch: epoch, Done: store.Seq(n), Read: store.Seq(n + n%7), Expiry: cursor.ForEver}
	for i := range n % 4 {
		p.Filters = append(p.Filters, cursor.Filter{Filter: fmt.Sprint("a/", n, "/", i), Options: fmt.Append(nil, n+i)})
	}
	for i := range n % 7 {
		p.Window = append(p.Window, cursor.Unacked{Seq: p.Done + store.Seq(i+1), Tag: uint16(n * i), State: uint8(n + i)})
	}
	if n%3 > 0 {
		p.Data = fmt.Append(nil, "data ", n)
	}
	return p
}

// whole returns the number of a position of pos, or an error if it is none. Away and Expiry are not looked at.
func whole(p cursor.Position) (int, error) {
	p.Expiry = cursor.ForEver
	want := pos(p.Key, int(p.Done))
	if got, want := text(p), text(*want); got != want {
		return 0, fmt.Errorf("the position is %s, want %s", got, want)
	}
	return int(p.Done), nil
}

// text formats a position without Away and Taken.
func text(p cursor.Position) string {
	p.Away, p.Taken = time.Time{}, false
	return fmt.Sprintf("%+v", p)
}

// away returns p with a reader that left now.
func away(p *cursor.Position) *cursor.Position {
	p.Away = time.Now()
	return p
}
