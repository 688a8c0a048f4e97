package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard is the file system that the engine uses. The engine ends the process if it cannot write its log or
// its list of tables. The guard hides such an error from it. From then on it writes and removes
// nothing, and the engine only serves reads. If the disk is full, the guard waits for room.
type guard struct {
	filesystem
	fail    func(error)
	err     func() error
	changed func() // called when a writer begins or ends to wait for room

	waits   atomic.Bool // writes wait for room
	late    atomic.Bool // syncs of the engine's log are skipped
	reading bool        // read-only
	dir     string
	noMerge atomic.Int64 // tables are not merged before this time, ns: there was no room

	mergeRoom   uint64 // bytes that must be free for the next table
	waitingEnds chan struct{}
	endWaiting  sync.Once

	mu      sync.Mutex    // guards the fields below
	waiting int           // writers that wait for room
	noRoom  chan struct{} // closed while a writer waits
}

// How long the guard waits before it checks for room again, for writes and for merges.
const (
	roomAfter  = 100 * time.Millisecond
	mergeAfter = time.Second
)

// errNoRoom is the error of a merge that has no room. The engine retries it later. The remaining room is kept
// for the next writes and for deletions.
var errNoRoom = fmt.Errorf("there is no room to merge tables: %w", syscall.ENOSPC)

// merging is the category in which the engine writes merged tables.
const merging = "pebble-compaction"

func newGuard(eo engineOptions, e *engine) *guard {
	return &guard{
		filesystem: eo.fs, fail: e.fail, err: e.err, changed: eo.changed, reading: eo.readOnly, dir: eo.dir,
		waitingEnds: make(chan struct{}), noRoom: make(chan struct{}),
	}
}

// stopWaiting lets writes fail instead of waiting for room.
func (g *guard) stopWaiting() {
	g.waits.Store(false)
	g.endWaiting.Do(func() { close(g.waitingEnds) })
}

// Unwrap implements vfs.FS.
func (g *guard) Unwrap() vfs.FS { return g.filesystem }

var errInUse = errors.New("another process uses it, or is not yet gone")

// Lock implements vfs.FS.
func (g *guard) Lock(name string) (io.Closer, error) {
	c, err := g.filesystem.Lock(name)
	if g.reading && errors.Is(err, syscall.EROFS) {
		return io.NopCloser(nil), nil // no other process can write there either
	}
	if path := (*fs.PathError)(nil); err != nil && !errors.As(err, &path) {
		return nil, fmt.Errorf("%w (%w)", errInUse, err)
	}
	return c, err
}

// isTable reports whether a file is a table. If writing a table fails, the engine writes it again.
func isTable(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

// Open implements vfs.FS. A missing table is an error for its readers, but does not end the process.
func (g *guard) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := g.filesystem.Open(name, opts...)
	if isTable(name) && errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s is missing", g.PathBase(name))
	}
	return f, err
}

// whenThereIsRoom calls do. If the disk is full and the guard waits, it repeats the call until there is
// room.
func (g *guard) whenThereIsRoom(do func() error) error {
	err := do()
	if !isFull(err) || !g.waits.Load() {
		return err
	}
	g.wait(1)
	defer g.wait(-1)
	for isFull(err) {
		select {
		case <-g.waitingEnds:
			return err
		case <-time.After(roomAfter):
		}
		err = do()
	}
	return err
}

// wait counts a writer that begins or ends to wait for room.
func (g *guard) wait(n int) {
	defer g.changed()
	g.mu.Lock()
	defer g.mu.Unlock()
	switch g.waiting += n; {
	case g.waiting == 0:
		g.noRoom = make(chan struct{})
	case n > 0 && g.waiting == 1:
		close(g.noRoom)
	}
}

// full returns a channel that is closed when a writer waits for room.
func (g *guard) full() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.noRoom
}

// mayMerge returns nil if there is room for one more table. If there was none a moment ago, it waits first,
// since the engine retries at once.
func (g *guard) mayMerge() error {
	select {
	case <-g.waitingEnds:
	case <-time.After(time.Until(time.Unix(0, g.noMerge.Load()))):
	}
	u, err := g.GetDiskUsage(g.dir)
	if err == nil && u.AvailBytes < g.mergeRoom {
		return g.cannotMerge()
	}
	return nil
}

func (g *guard) cannotMerge() error {
	g.noMerge.Store(time.Now().Add(mergeAfter).UnixNano())
	return errNoRoom
}

// open opens a file for writing.
func (g *guard) open(name string, c vfs.DiskWriteCategory, how func() (vfs.File, error)) (vfs.File, error) {
	table := isTable(name)
	if err := g.err(); err != nil && table {
		select {
		case <-g.waitingEnds: // the log is being closed: let the engine stop
			return nowhere{g.filesystem, name}, nil
		case <-time.After(roomAfter): // the engine retries at once
			return nil, err
		}
	} else if err != nil {
		return nowhere{g.filesystem, name}, nil
	}
	if c == merging {
		if err := g.mayMerge(); err != nil {
			return nil, err
		}
	}
	var f vfs.File
	err := g.whenThereIsRoom(func() (err error) { f, err = how(); return err })
	switch {
	case err == nil:
		return &guarded{File: f, g: g, table: table, merged: c == merging, log: strings.HasSuffix(name, ".log")}, nil
	case table:
		return nil, err
	}
	g.fail(err)
	return nowhere{g.filesystem, name}, nil
}

// Create implements vfs.FS.
func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open(name, c, func() (vfs.File, error) { return g.filesystem.Create(name, c) })
}

// ReuseForWrite implements vfs.FS.
func (g *guard) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open(name, c, func() (vfs.File, error) { return g.filesystem.ReuseForWrite(old, name, c) })
}

// OpenDir implements vfs.FS.
func (g *guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.filesystem.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &guarded{File: f, g: g}, nil
}

// Rename implements vfs.FS.
func (g *guard) Rename(old, name string) error {
	return g.try(func() error { return g.filesystem.Rename(old, name) })
}

// Remove implements vfs.FS.
func (g *guard) Remove(name string) error {
	if g.err() != nil {
		return nil
	}
	return g.filesystem.Remove(name)
}

// try calls do. If that fails, it ends writing and hides the error from the engine.
func (g *guard) try(do func() error) error {
	if g.err() == nil {
		if err := do(); err != nil {
			g.fail(err)
		}
	}
	return nil
}

// guarded is a file that the engine writes.
type guarded struct {
	vfs.File
	g       *guard
	table   bool
	merged  bool // it merges other tables
	log     bool
	syncDue atomic.Bool // a sync was skipped
}

// try calls do. It returns the error to the engine only if the file is a table.
func (f *guarded) try(do func() error) error {
	if f.table {
		return do()
	}
	return f.g.try(do)
}

// Write implements vfs.File.
func (f *guarded) Write(p []byte) (n int, err error) {
	if f.merged {
		if n, err = f.File.Write(p); isFull(err) {
			err = f.g.cannotMerge()
		}
		return n, err
	}
	err = f.try(func() error {
		return f.g.whenThereIsRoom(func() error {
			m, err := f.File.Write(p[n:])
			n += m
			return err
		})
	})
	if err == nil {
		n = len(p)
	}
	return n, err
}

// Sync implements vfs.File.
func (f *guarded) Sync() error { return f.sync(f.File.Sync) }

// SyncData implements vfs.File.
func (f *guarded) SyncData() error { return f.sync(f.File.SyncData) }

// sync skips the sync of the log if the commit may be synced later. The engine requests a sync at each
// commit, since it writes its log completely only then.
func (f *guarded) sync(do func() error) error {
	if f.log && f.g.late.Load() {
		f.syncDue.Store(true)
		return nil
	}
	f.syncDue.Store(false)
	return f.try(do)
}

// SyncTo implements vfs.File.
func (f *guarded) SyncTo(length int64) (full bool, err error) {
	err = f.try(func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, err
}

// Close implements vfs.File. It first does a sync that was skipped.
func (f *guarded) Close() error {
	var err error
	if f.syncDue.Load() {
		err = f.try(f.File.SyncData)
	}
	if err2 := f.File.Close(); err == nil {
		err = f.try(func() error { return err2 })
	}
	return err
}

// nowhere replaces files that are written after a failure. It discards all data.
type nowhere struct {
	fs   filesystem
	name string
}

var _ vfs.File = nowhere{}

func (nowhere) Close() error                           { return nil }
func (nowhere) Read([]byte) (int, error)               { return 0, io.EOF }
func (nowhere) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }
func (nowhere) Write(p []byte) (int, error)            { return len(p), nil }
func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nowhere) Preallocate(int64, int64) error         { return nil }
func (n nowhere) Stat() (vfs.FileInfo, error)          { return n.fs.Stat(n.fs.PathDir(n.name)) }
func (nowhere) Sync() error                            { return nil }
func (nowhere) SyncTo(int64) (bool, error)             { return false, nil }
func (nowhere) SyncData() error                        { return nil }
func (nowhere) Prefetch(int64, int64) error            { return nil }
func (nowhere) Fd() uintptr                            { return vfs.InvalidFd }

// isFull reports whether the error means that the disk is full.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
