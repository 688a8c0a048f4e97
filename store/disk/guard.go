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

// guard stands between the engine and the disk, which the engine takes for one that does not fail:
// an error where it writes its log or its list of tables would be the end of the process. It is the
// guard that hears of it, after which nothing is written or removed any more, while the engine goes
// on with what can be read. Where there is no room, it waits for some.
type guard struct {
	filesystem
	fail func(error)
	err  func() error

	patient atomic.Bool // it waits for room
	late    atomic.Bool // the engine's log is not synced now, only written
	reading bool        // nothing is to be written
	dir     string
	noMerge atomic.Int64 // tables are not merged before this time, ns: there was no room

	mergeRoom uint64 // bytes that are to be free for the next table
	hasty     chan struct{}
	hasten    sync.Once

	mu      sync.Mutex    // guards what follows
	waiting int           // writers that wait for room
	noRoom  chan struct{} // closed while there are some
}

// When it is looked again whether there is room: for what waits, and to merge tables.
const (
	roomAfter  = 100 * time.Millisecond
	mergeAfter = time.Second
)

// errNoRoom is why tables are not merged: they can be later. What is left of the room is for what is
// written next, and for deleting.
var errNoRoom = fmt.Errorf("there is no room to merge tables: %w", syscall.ENOSPC)

// merging is what the engine calls it.
const merging = "pebble-compaction"

func newGuard(fs filesystem, e *engine, reading bool) *guard {
	return &guard{filesystem: fs, fail: e.fail, err: e.err, reading: reading, dir: e.dir, hasty: make(chan struct{}), noRoom: make(chan struct{})}
}

// hurry has nobody wait for room any more.
func (g *guard) hurry() {
	g.patient.Store(false)
	g.hasten.Do(func() { close(g.hasty) })
}

// Unwrap implements vfs.FS.
func (g *guard) Unwrap() vfs.FS { return g.filesystem }

var errInUse = errors.New("another process uses it, or is not yet gone")

// Lock implements vfs.FS.
func (g *guard) Lock(name string) (io.Closer, error) {
	c, err := g.filesystem.Lock(name)
	if g.reading && errors.Is(err, syscall.EROFS) {
		return io.NopCloser(nil), nil // nobody else can write there either
	}
	if path := (*fs.PathError)(nil); err != nil && !errors.As(err, &path) {
		return nil, fmt.Errorf("%w (%w)", errInUse, err)
	}
	return c, err
}

// isTable reports whether a file is one that the engine can do without, if it was not written: it
// tries again.
func isTable(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

// Open implements vfs.FS. That a table is missing is an error for who reads it, and not the end of the
// process.
func (g *guard) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := g.filesystem.Open(name, opts...)
	if isTable(name) && errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s is missing", g.PathBase(name))
	}
	return f, err
}

// whenThereIsRoom does something again as long as the disk is full, and somebody can wait.
func (g *guard) whenThereIsRoom(do func() error) error {
	err := do()
	if !isFull(err) || !g.patient.Load() {
		return err
	}
	g.wait(1)
	defer g.wait(-1)
	for isFull(err) {
		select {
		case <-g.hasty:
			return err
		case <-time.After(roomAfter):
		}
		err = do()
	}
	return err
}

// wait counts a writer that begins or ends to wait for room.
func (g *guard) wait(n int) {
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

// mayMerge returns nil if there is room for one more table. Soon after there was none it waits, for the
// engine asks again at once.
func (g *guard) mayMerge() error {
	select {
	case <-g.hasty:
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

// open makes a file ready to be written.
func (g *guard) open(name string, c vfs.DiskWriteCategory, how func() (vfs.File, error)) (vfs.File, error) {
	table := isTable(name)
	if err := g.err(); err != nil && table {
		select {
		case <-g.hasty: // nobody reads any more, and the engine is to come to its end
			return nowhere{g.filesystem, name}, nil
		case <-time.After(roomAfter): // it asks again at once
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

// Remove implements vfs.FS. What cannot be removed does no harm.
func (g *guard) Remove(name string) error {
	if g.err() != nil {
		return nil
	}
	return g.filesystem.Remove(name)
}

// try does something of which the engine is not told that it failed.
func (g *guard) try(do func() error) error {
	if g.err() == nil {
		if err := do(); err != nil {
			g.fail(err)
		}
	}
	return nil
}

// guarded is a file that is written.
type guarded struct {
	vfs.File
	g      *guard
	table  bool
	merged bool // it is made of other tables
	log    bool
	owed   atomic.Bool // a sync was left out
}

// try does something with the file. What fails is told the engine only of a table.
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

// sync leaves out what may be later: the engine writes its log in full only where it is to be
// synced.
func (f *guarded) sync(do func() error) error {
	if f.log && f.g.late.Load() {
		f.owed.Store(true)
		return nil
	}
	f.owed.Store(false)
	return f.try(do)
}

// SyncTo implements vfs.File.
func (f *guarded) SyncTo(length int64) (full bool, err error) {
	err = f.try(func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, err
}

// Close implements vfs.File. No later sync is for this file.
func (f *guarded) Close() error {
	var err error
	if f.owed.Load() {
		err = f.try(f.File.SyncData)
	}
	if err2 := f.File.Close(); err == nil {
		err = f.try(func() error { return err2 })
	}
	return err
}

// nowhere is what is written to after a failure.
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

// isFull reports whether the system says that there is no room.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
