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

// batch is a set of writes that are committed all or none.
type batch = pebble.Batch

// cursor iterates over the keys of a range, as they were when it was made.
type cursor = pebble.Iterator

// filesystem is what the engine writes to.
type filesystem = vfs.FS

// system is the one of the machine.
var system = vfs.Default

// engine stores keys and values. Only this file depends on Pebble, and guard.go and torn.go on its files.
type engine struct {
	db       *pebble.DB
	fs       *guard
	dir      string
	caches   int64  // bytes of memory that it may take
	reserve  uint64 // bytes of the disk that are left free
	least    uint64 // bytes that are needed to delete something: merging then takes less
	damaged  bool   // its log may have lost acknowledged records
	memtable int64

	mu     sync.Mutex    // guards what follows
	failed error         // why nothing can be written any more
	broken chan struct{} // closed when failed is set
	onFail func(error)

	// call runs what enters the engine. Tests in a synctest bubble have it leave the bubble, which
	// the engine's pools must not be in.
	call func(func())
}

// errMissing is the error of a folder whose engine is gone.
var errMissing = pebble.ErrDBDoesNotExist

// direct is the usual call.
func direct(f func()) { f() }

// How the memory for history is divided, in parts of it.
const (
	cacheParts    = 8  // blocks that were read
	memtableParts = 8  // what was written and is in no table yet
	memtables     = 2  // one of them being written as a table
	stopWrites    = 20 // rows of tables that wait to be merged
	reserveTables = 8  // of their size are left free on disk: for logs, and for tables being merged
	memtableDisk  = 64 // and of the room on disk, where that is bounded
	minMemtable   = 256 << 10
	maxMemtable   = 32 << 20
	maxCache      = 256 << 20
	minTable      = 4 << 20
	minBlock      = 32 << 10  // what is read at once: more of it makes replay faster,
	maxBlock      = 128 << 10 // where there is
	blocks        = 64        // the number of blocks that the cache holds at least
)

// engineFormat is the last format without sync offsets in the log: the engine does not know what was synced,
// since guard skips some syncs (guard.late).
const engineFormat = pebble.FormatColumnarBlocks

// engineOptions say how to open one.
type engineOptions struct {
	fs       filesystem
	dir      string
	made     bool  // it is there already
	readOnly bool  // nothing is written
	memory   int64 // bytes for history; the engine takes its part of them
	disk     int64 // bytes that it may take; 0: no bound
	call     func(func())
	changed  func()      // as in guard
	onFail   func(error) // is called with the reason when writing has failed for good; may be nil
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
	// Messages grow at their end, while a few records change all the time. Therefore tables have keys
	// of one space, and are cut small where they are written: those of messages go down a level as
	// they are, instead of being written anew at each.
	o.Experimental.SpanPolicyFunc = func(key []byte) (pebble.SpanPolicy, []byte, error) {
		return pebble.SpanPolicy{}, behind(key[0]), nil
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
		r := result{err: errors.New("the engine does not begin")}
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
	select { // after a failure it may wait for ever
	case r := <-done:
		if r.db != nil {
			e.db = r.db
			_ = e.close()
		}
	case <-time.After(patience):
	}
	return e.err()
}

// background is called with errors of writing tables. They end writing, since a disk that has failed cannot
// be trusted.
func (e *engine) background(err error) {
	if !errors.Is(err, pebble.ErrCancelledCompaction) && !errors.Is(err, errNoRoom) {
		e.fail(err)
	}
}

// merge merges the tables that have keys of a range, as far as there is something to gain.
func (e *engine) merge(ctx context.Context, from, below []byte) error {
	return e.db.Compact(ctx, from, below, false)
}

// bePatient lets writes wait for room while the disk is full.
func (e *engine) bePatient() { e.fs.patient.Store(true) }

// fail notes the first reason why nothing can be written any more.
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

// err returns why nothing can be written any more, or nil.
func (e *engine) err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failed
}

// commit writes what fill puts in a batch. With sync it is on disk when commit returns; else the
// system has it, so that it outlives the process. After an error nothing is written any more.
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
	go func() { // which may wait for ever, where tables cannot be written
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
		err = e.err() // the engine does not hear of all
	}
	return err
}

// sync has all that was committed be on disk.
func (e *engine) sync() error {
	return e.commit(true, func(b *batch) error { return b.LogData([]byte{0}, nil) })
}

// cursor returns one for the keys from lower on, below upper. The caller must close it.
func (e *engine) cursor(lower, upper []byte) (*cursor, error) {
	return e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
}

// size returns the bytes taken on disk.
func (e *engine) size() (n int64) {
	e.call(func() { n = int64(min(e.db.Metrics().DiskSpaceUsage(), math.MaxInt64)) })
	return n
}

// room is how much room there is on the disk.
type room int

const (
	none   room = iota // not even to delete messages
	little             // to delete messages, and not to add any
	enough
)

// room returns how much room there is if a number of bytes is written.
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

// writtenOver is how often what is new is on disk at the same time: in the log, and in tables that
// are merged.
const writtenOver = 3

// congested reports whether tables cannot be merged, so that soon nothing more can be written.
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

// patience is how long an engine that failed may take to end: it may wait for itself for ever.
const patience = 5 * time.Second

// close closes the engine. The failure of one that has failed was reported before, and is not returned.
func (e *engine) close() (err error) {
	e.fs.stopWaiting()
	e.call(func() {
		ended := make(chan error, 1)
		go func() {
			err := errors.New("the engine does not end")
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
		case <-time.After(patience):
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
