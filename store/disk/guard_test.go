package disk_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
)

// faulty is a disk on which writing fails from a given operation on, while it is armed.
type faulty struct {
	err    error
	first  int64 // the first operation that fails, counted since it was armed
	count  atomic.Int64
	armed  atomic.Bool
	struck atomic.Pointer[errorfs.Op]
}

// full returns a disk that is full from a given operation on.
func full(first int64) *faulty { return &faulty{err: syscall.ENOSPC, first: first} }

// String implements errorfs.Injector.
func (f *faulty) String() string { return "faulty" }

// MaybeError implements errorfs.Injector.
func (f *faulty) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || op.Kind == errorfs.OpFileClose || op.Kind == errorfs.OpLock || !f.armed.Load() {
		return nil
	}
	if isFull := errors.Is(f.err, syscall.ENOSPC); isFull && !needsRoom(op.Kind) {
		return nil
	}
	if f.count.Add(1) < f.first {
		return nil
	}
	f.struck.CompareAndSwap(nil, &op)
	return f.err
}

func needsRoom(k errorfs.OpKind) bool {
	return k == errorfs.OpCreate || k == errorfs.OpFileWrite || k == errorfs.OpFilePreallocate || k == errorfs.OpReuseForWrite
}

// sayLong appends a long message. A few of them fill the engine's log.
func sayLong(l store.Log, text string) (store.ID, error) {
	m := store.Message{Group: "a", Time: time.Now(), Msg: store.AppendQuote(nil, text+strings.Repeat("-", 20_000))}
	return l.Append(context.Background(), []store.Entry{m.Entry(nil)})
}

// texts removes the padding that sayLong added.
func texts(list []held) []held {
	for i := range list {
		list[i].text = strings.TrimRight(list[i].text, "-")
	}
	return list
}

// TestADiskFailureAtAnyOperationMakesTheLogReadOnly makes the disk fail from each operation on in turn, while
// messages are appended and logs and tables are written. The process goes on, and the acknowledged messages can
// be read, also after the store is opened again.
func TestADiskFailureAtAnyOperationMakesTheLogReadOnly(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for first, struck := int64(1), true; struck; first += 1 + first/int64(8*scale) {
		mem := vfs.NewCrashableMem()
		f := &faulty{err: syscall.EIO, first: first}
		f.armed.Store(true)
		struck = broken(t, mem, f)
		if op := f.struck.Load(); op != nil {
			seen[fmt.Sprintf("%v of %s", op.Kind, kindOf(op.Path))] = true
		}
		if t.Failed() {
			t.Fatalf("with a failure at operation %d, %+v", first, f.struck.Load())
		}
	}
	t.Logf("%d kinds of failures: %v", len(seen), seen)
	if len(seen) < 12 {
		t.Errorf("only these operations failed: %v", seen)
	}
}

func kindOf(path string) string {
	for _, kind := range []string{".log", ".sst", "MANIFEST", "OPTIONS", "marker", "ids", "watchbox"} {
		if strings.Contains(path, kind) {
			return kind
		}
	}
	return "else"
}

// broken uses a log on a disk that will fail, and reports whether an operation failed.
func broken(t *testing.T, mem *vfs.MemFS, f *faulty) bool {
	t.Helper()
	r := newRecord()
	l, err := disk.Open(powerOptions(errorfs.Wrap(mem, f), disk.Always))
	if err == nil {
		for i := range 60 {
			text := fmt.Sprint(i)
			r.send(text)
			id, err := sayLong(l, text)
			if err == nil {
				r.ack(id.String(), text)
			} else if !errors.Is(err, store.ErrReadOnly) {
				t.Errorf("message %d: %v", i, err)
			}
		}
		got, _, err := all(l, "#")
		if err != nil {
			t.Errorf("read: %v", err)
		}
		r.judge(texts(got), never)
		_ = l.Close() // it may have failed
	} else if s := err.Error(); strings.Contains(s, "\n") || !strings.Contains(s, "input/output error") {
		t.Errorf("Open failed with %q", s)
	}
	f.armed.Store(false)
	if l, err = disk.Open(powerOptions(mem.CrashClone(vfs.CrashCloneCfg{}), disk.Always)); err != nil {
		t.Errorf("opening the store again: %v", err)
		return false
	}
	got, _, err := all(l, "#")
	if err != nil {
		t.Error(err)
	}
	r.judge(texts(got), never)
	r.verdict(t)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	return f.struck.Load() != nil
}

// TestAWriteWaitsForRoomAtAnyOperation makes the disk full from each operation on in turn, without reporting its
// free bytes. Calls that come while writers wait for room are refused at once, no message is lost,
// and the log accepts messages again when there is room.
func TestAWriteWaitsForRoomAtAnyOperation(t *testing.T) {
	t.Parallel()
	waits := 0
	for first, struck := int64(1), true; struck; first += 1 + first/int64(4*scale) {
		f := full(first)
		waited := filled(t, f)
		if struck = f.struck.Load() != nil; waited {
			waits++
		}
		if t.Failed() {
			t.Fatalf("with a disk full from operation %d on, %+v", first, f.struck.Load())
		}
	}
	if waits < 5 {
		t.Errorf("writers waited for room in %d runs: the test proves nothing", waits)
	}
}

// filled uses a log on a disk that is full for a while, and reports whether writers waited for room.
func filled(t *testing.T, f *faulty) (waited bool) {
	t.Helper()
	r := newRecord()
	wake := make(chan struct{}, 1)
	l, err := disk.Open(powerOptions(errorfs.Wrap(vfs.NewMem(), f), disk.Always).Watched(waker(wake)))
	if err != nil {
		t.Fatal(err)
	}
	f.armed.Store(true)
	send := func(text string) {
		r.send(text)
		id, err := sayLong(l, text)
		switch {
		case err == nil:
			r.ack(id.String(), text)
		case !errors.Is(err, store.ErrFull):
			t.Errorf("%s: %v", text, err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var writers sync.WaitGroup
		for w := range 2 {
			writers.Go(func() {
				for i := range 30 {
					send(fmt.Sprint(w, " ", i))
				}
			})
		}
		writers.Wait()
	}()
	select {
	case <-l.Full():
	case <-done:
	}
	if waited = isClosed(l.Full()); waited {
		r.send("meanwhile")
		if _, err := say(l, "meanwhile"); !errors.Is(err, store.ErrFull) {
			t.Errorf("append on a full disk: %v", err)
		}
	}
	if got, _, err := all(l, "#"); err != nil {
		t.Errorf("read on a full disk: %d messages, %v", len(got), err)
	}
	f.armed.Store(false)
	<-done
	if err := l.Err(); err != nil && !errors.Is(err, store.ErrFull) { // the log tries again a moment later
		t.Error(err)
	}
	r.send("later")
	until(t, wake, "a message is accepted when there is room", func() bool {
		id, err := say(l, "later")
		if err == nil {
			r.ack(id.String(), "later")
		} else if !errors.Is(err, store.ErrFull) {
			t.Fatal(err)
		}
		return err == nil
	})
	got, _, err := all(l, "#")
	if err != nil {
		t.Error(err)
	}
	r.judge(texts(got), never)
	r.verdict(t)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	return waited
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// TestALogOnAFullDiskCanBeClosed while calls wait for room: one in the commit that found none, and others after
// it. The others are refused at once, and their messages are not stored.
func TestALogOnAFullDiskCanBeClosed(t *testing.T) {
	mem := vfs.NewCrashableMem()
	f := full(1)
	l, err := disk.Open(powerOptions(errorfs.Wrap(mem, f), disk.Always))
	if err != nil {
		t.Fatal(err)
	}
	r := newRecord()
	feed(t, l, r, 10)
	f.armed.Store(true)
	const callers = 20
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, callers)
	for i := range callers {
		go func() {
			text := fmt.Sprint("waits ", i)
			_, err := sayLong(l, text)
			answers <- answer{text, err}
		}()
	}
	refused := map[string]bool{}
	note := func(a answer) {
		if a.err == nil {
			t.Errorf("%q was accepted on a full disk", a.text)
		}
		refused[a.text] = errors.Is(a.err, store.ErrFull)
	}
	note(<-answers) // a refusal shows that a commit waits for room
	if err := l.Err(); !errors.Is(err, store.ErrFull) {
		t.Errorf("Err while a commit waits for room: %v", err)
	}
	l.Unblock()
	for range callers - 1 {
		note(<-answers)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	f.armed.Store(false)
	if l, err = disk.Open(powerOptions(mem.CrashClone(vfs.CrashCloneCfg{}), disk.Always)); err != nil {
		t.Fatal(err)
	}
	got, gaps, err := all(l, "#")
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	for _, m := range texts(got) {
		if refused[m.text] {
			t.Errorf("%q was refused but is stored", m.text)
		}
	}
	if len(got) < 10 || len(gaps) > 0 {
		t.Errorf("read %d messages and %d gaps, want at least 10 and none", len(got), len(gaps))
	}
}
