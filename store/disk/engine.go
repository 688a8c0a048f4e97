package disk

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// batch is a set of writes that are committed together or not at all.
type batch = pebble.Batch

// cursor iterates over the keys of a range, as they were when it was made.
type cursor = pebble.Iterator

// filesystem is what the engine writes to.
type filesystem = vfs.FS

// system is the file system of the machine.
var system = vfs.Default

// engine stores keys and values. Only this file depends on Pebble; guard.go and torn.go depend on its files.
type engine struct {
	db       *pebble.DB
	fs       *guard
	dir      string
	caches   int64  // bytes of memory that it may use
	reserve  uint64 // bytes of the disk to leave free
	least    uint64 // free bytes needed to delete messages and merge their tables
	damaged  bool   // its log may have lost acknowledged records
	memtable int64

	mu     sync.Mutex    // guards the fields below
	failed error         // why writing has ended
	broken chan struct{} // closed when failed is set
	onFail func(error)

	// call runs a function that enters the engine. In tests in a synctest bubble, it runs the function
	// outside of the bubble, since the engine's pools must not be in it.
	call func(func())
}

// errMissing is the error for a folder without the files of the engine.
var errMissing = pebble.ErrDBDoesNotExist

// direct is the usual call.
func direct(f func()) { f() }

// The division of the memory for history. A part of n is 1/n of it.
const (
	cacheParts    = 8  // for blocks that were read
	memtableParts = 8  // for writes that are in no table yet
	memtables     = 2  // one of them is being written as a table
	stopWrites    = 20 // rows of tables that wait for a merge before writes stop
	reserveTables = 8  // memtables whose size is left free on disk: for logs, and for tables being merged
	memtableDisk  = 64 // the part of the disk for a memtable, if the disk is bounded
	minMemtable   = 256 << 10
	maxMemtable   = 32 << 20
	maxCache      = 256 << 20
	minTable      = 4 << 20
	minBlock      = 32 << 10  // the unit of reading: larger blocks make replay faster,
	maxBlock      = 128 << 10 // if there is memory for them
	blocks        = 64        // the least number of blocks that the cache holds
)

// engineFormat is the last format without sync offsets in the log. The engine does not know which records were
// synced, since guard skips some syncs (guard.late).
const engineFormat = pebble.FormatColumnarBlocks

// engineOptions say how to open an engine.
type engineOptions struct {
	fs       filesystem
	dir      string
	made     bool // it exists already
	readOnly bool
	memory   int64 // bytes for history; the engine uses its part of them
	disk     int64 // bytes that it may use; 0: no bound
	call     func(func())
	changed  func()      // as in guard
	onFail   func(error) // called with the reason when writing has failed for good; may be nil
}

// openEngine opens the folder.
func openEngine(eo engineOptions) (e *engine, err error) {
	memtable := min(eo.memory/memtableParts, maxMemtable)
	if eo.disk > 0 {
		memtable = min(memtable, eo.disk/memtableDisk)
	}
	memtable = max(memtable, minMemtable)
	cache := min(eo.memory/cacheParts, maxCache)
	call := eo.call
	e = &engine{dir: eo.dir, caches: cache + memtables*memtable, memtable: memtable, call: call, onFail: eo.onFail}
	call(func() { e.fs, e.broken = newGuard(eo, e), make(chan struct{}) })
	table := max(minTable, memtable/2)
	e.reserve = uint64(reserveTables*memtable) + 16<<20
	e.fs.mergeRoom = uint64(3*memtable) + 1<<20
	e.least = e.fs.mergeRoom + uint64(table)
	o := &pebble.Options{
		FS:                          e.fs,
		ErrorIfNotExists:            eo.made,
		ReadOnly:                    eo.readOnly,
		FormatMajorVersion:          engineFormat,
		CacheSize:                   cache,
		MemTableSize:                uint64(memtable),
		MemTableStopWritesThreshold: memtables,
		FlushSplitBytes:             memtable / 8,
		BytesPerSync:                1 << 20,
		MaxOpenFiles:                500,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       stopWrites,
		Logger:                      logger{e},
		EventListener: &pebble.EventListener{
			BackgroundError: e.background,
			DataCorruption:  func(pebble.DataCorruptionInfo) {}, // its readers get an error
		},
	}
	// Messages are added at the end, while a few records change all the time. Therefore a table has keys of
	// one space only, and new tables are small. Tables of messages then move down a level without being
	// rewritten.
	o.Experimental.SpanPolicyFunc = func(key []byte) (pebble.SpanPolicy, []byte, error) {
		return pebble.SpanPolicy{}, keyAfter(key[0]), nil
	}
	for i := range o.Levels {
		o.Levels[i].BlockSize = int(max(minBlock, min(cache/blocks, maxBlock)))
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.FastestCompression }
	}
	o.TargetFileSizes[0] = memtable / 2
	for i := range o.TargetFileSizes[1:] {
		o.TargetFileSizes[1+i] = table
	}
	call(func() {
		if e.damaged, err = isDamaged(eo.fs, eo.dir); err == nil {
			err = e.open(o)
		}
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// open opens Pebble in a goroutine, which logger.Fatalf ends if Pebble cannot go on.
func (e *engine) open(o *pebble.Options) error {
	type result struct {
		db  *pebble.DB
		err error
	}
	done := make(chan result, 1)
	go func() {
		r := result{err: errors.New("the engine did not start")}
		defer func() {
			if v := recover(); v != nil {
				r.err = fmt.Errorf("%v", v)
			}
			done <- r
		}()
		r.db, r.err = pebble.Open(e.dir, o)
	}()
	select {
	case r := <-done:
		if err := e.err(); err != nil {
			if r.db != nil {
				e.db = r.db
				_ = e.close()
			}
			return err
		}
		e.db = r.db
		return r.err
	case <-e.broken:
	}
	select { // after a failure it may wait forever
	case r := <-done:
		if r.db != nil {
			e.db = r.db
			_ = e.close()
		}
	case <-time.After(stopTimeout):
	}
	return e.err()
}

// background is called with errors from writing tables. Such an error ends writing, since a disk that has
// failed cannot be trusted.
func (e *engine) background(err error) {
	if !errors.Is(err, pebble.ErrCancelledCompaction) && !errors.Is(err, errNoRoom) {
		e.fail(err)
	}
}

// merge merges the tables that have keys of a range.
func (e *engine) merge(ctx context.Context, from, below []byte) error {
	return e.db.Compact(ctx, from, below, false)
}

// waitForRoom lets writes wait for room while the disk is full.
func (e *engine) waitForRoom() { e.fs.waits.Store(true) }

// fail ends writing, and records the first reason.
func (e *engine) fail(err error) {
	err = inOneLine(err)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed != nil {
		return
	}
	e.failed = err
	close(e.broken)
	if e.onFail != nil {
		e.onFail(err)
	}
}

// err returns why writing has ended, or nil.
func (e *engine) err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failed
}

// commit writes the batch that fill fills. With sync, the batch is on disk when commit returns. Without, the
// operating system has it, so that it survives the process. An error ends writing.
func (e *engine) commit(sync bool, fill func(*batch) error) (err error) {
	e.call(func() { err = e.write(sync, fill) })
	if err != nil {
		e.fail(err)
	}
	return err
}

func (e *engine) write(sync bool, fill func(*batch) error) (err error) {
	if err := e.err(); err != nil {
		return err
	}
	b := e.db.NewBatch()
	if err := fill(b); err != nil {
		_ = b.Close()
		return err
	}
	e.fs.late.Store(!sync)
	done := make(chan error, 1)
	go func() { // it may wait forever if tables cannot be written
		defer func() {
			if v := recover(); v != nil { // the engine has failed, and was closed before this goroutine ran
				done <- fmt.Errorf("%v", v)
			}
		}()
		done <- b.Commit(pebble.Sync)
	}()
	select {
	case err = <-done:
	case <-e.broken:
		return e.err()
	}
	if err == nil {
		err = b.Close()
	}
	if err == nil {
		err = e.err() // guard hides some errors from the engine
	}
	return err
}

// sync syncs all commits to disk.
func (e *engine) sync() error {
	return e.commit(true, func(b *batch) error { return b.LogData([]byte{0}, nil) })
}

// cursor returns a cursor for the keys from lower to below upper. The caller must close it.
func (e *engine) cursor(lower, upper []byte) (*cursor, error) {
	return e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
}

// size returns the bytes used on disk.
func (e *engine) size() (n int64) {
	e.call(func() { n = int64(min(e.db.Metrics().DiskSpaceUsage(), math.MaxInt64)) })
	return n
}

// room is how much room there is on the disk.
type room int

const (
	none   room = iota // not enough to delete messages
	little             // enough to delete messages, but not to add any
	enough
)

// room returns how much room is left for a write of the given number of bytes.
func (e *engine) room(bytes int) room {
	u, err := e.fs.GetDiskUsage(e.dir)
	switch {
	case e.stuck() || e.congested() || err == nil && u.AvailBytes < e.least:
		return none
	case err == nil && u.AvailBytes < min(e.reserve, u.TotalBytes/4)+writtenOver*uint64(bytes):
		return little
	}
	return enough
}

// writtenOver is how many copies of new data are on disk at the same time: in the log, and in tables that
// are being merged.
const writtenOver = 3

// congested reports whether tables cannot be merged, so that writes will soon stop.
func (e *engine) congested() bool {
	if time.Now().UnixNano() > e.fs.noMerge.Load()+int64(mergeAfter) {
		return false
	}
	rows := int32(0)
	e.call(func() { rows = e.db.Metrics().Levels[0].Sublevels })
	return rows > stopWrites/2
}

// stuck reports whether the engine waits for room.
func (e *engine) stuck() bool { return isClosed(e.fs.full()) }

// stopTimeout is how long to wait for a failed engine to stop. It may deadlock.
const stopTimeout = 5 * time.Second

// close closes the engine. It does not return an earlier failure, which was reported already.
func (e *engine) close() (err error) {
	e.fs.stopWaiting()
	e.call(func() {
		ended := make(chan error, 1)
		go func() {
			err := errors.New("the engine did not stop")
			defer func() {
				if v := recover(); v != nil {
					err = fmt.Errorf("%v", v)
				}
				ended <- err
			}()
			err = e.db.Close()
		}()
		select {
		case err = <-ended:
			return
		case <-e.broken:
		}
		select {
		case <-ended:
		case <-time.After(stopTimeout):
		}
	})
	return err
}

// logger is the engine's logger. It handles only fatal errors.
type logger struct{ e *engine }

func (logger) Infof(string, ...any)  {}
func (logger) Errorf(string, ...any) {}

// Fatalf does not return, as the engine expects: it ends the goroutine instead of the process.
func (l logger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	l.e.fail(err)
	runtime.Goexit()
}
