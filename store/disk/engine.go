package disk

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// batch is what is written at once, all or nothing.
type batch = pebble.Batch

// cursor is a way through the keys of a range, as they were when it was made.
type cursor = pebble.Iterator

// filesystem is what the engine writes to.
type filesystem = vfs.FS

// system is the one of the machine.
var system = vfs.Default

// engine keeps keys and values. This file alone knows that it is Pebble.
type engine struct {
	db       *pebble.DB
	fs       filesystem
	dir      string
	caches   int64 // bytes of memory that it may take
	reserve  uint64
	memtable int64

	mu     sync.Mutex // guards what follows
	failed error      // why nothing can be written any more
	onFail func(error)

	// call runs what enters the engine. Tests in a synctest bubble have it leave the bubble, which
	// the engine's pools must not be in.
	call func(func())
}

// direct is the usual call.
func direct(f func()) { f() }

// How the memory for history is divided, in parts of it.
const (
	cacheParts    = 8 // blocks that were read
	memtableParts = 8 // what was written and is in no table yet
	memtables     = 2 // of which one is being made a table
	minMemtable   = 256 << 10
	maxMemtable   = 32 << 20
	maxCache      = 256 << 20
	minTable      = 4 << 20
	tableBlock    = 32 << 10 // what is read at once
)

// openEngine opens the folder, which it makes if need be.
func openEngine(fs filesystem, dir string, memory int64, call func(func())) (e *engine, err error) {
	memtable := min(max(memory/memtableParts, minMemtable), maxMemtable)
	cache := min(memory/cacheParts, maxCache)
	e = &engine{fs: fs, dir: dir, caches: cache + memtables*memtable, memtable: memtable, call: call}
	e.reserve = uint64(4*memtable) + 8<<20
	o := &pebble.Options{
		FS:                          fs,
		FormatMajorVersion:          pebble.FormatNewest,
		CacheSize:                   cache,
		MemTableSize:                uint64(memtable),
		MemTableStopWritesThreshold: memtables,
		FlushSplitBytes:             memtable / 32,
		BytesPerSync:                1 << 20,
		MaxOpenFiles:                500,
		L0CompactionThreshold:       4,
		FlushDelayDeleteRange:       time.Second,
		Logger:                      logger{e},
		EventListener: &pebble.EventListener{
			BackgroundError: e.background,
			DataCorruption:  func(i pebble.DataCorruptionInfo) { e.fail(fmt.Errorf("data is corrupt: %v", i)) },
		},
	}
	// Messages and their index grow at their ends, while a few records change all the time. Tables
	// that are cut small where they are written have but one of the two in them; so those of
	// messages go down a level as they are, instead of being written anew at each.
	for i := range o.Levels {
		o.Levels[i].BlockSize = tableBlock
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.FastestCompression }
	}
	o.TargetFileSizes[0] = memtable / 4
	for i := range o.TargetFileSizes[1:] {
		o.TargetFileSizes[1+i] = max(minTable, memtable/2)
	}
	call(func() {
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("%v", v)
			}
		}()
		e.db, err = pebble.Open(dir, o)
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// background hears of what goes wrong when tables are written. For want of room it is tried
// again; anything else is not, for what a disk that failed says afterwards cannot be trusted.
func (e *engine) background(err error) {
	if !isFull(err) && !errors.Is(err, pebble.ErrCancelledCompaction) {
		e.fail(err)
	}
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// fail notes the first reason why nothing can be written any more.
func (e *engine) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed != nil {
		return
	}
	e.failed = err
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
// system may take its time. After an error nothing is written any more.
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
	defer func() {
		if v := recover(); v != nil {
			f, ok := v.(fatal)
			if !ok {
				panic(v)
			}
			err = f.err
		}
	}()
	b := e.db.NewBatch()
	if err := fill(b); err != nil {
		return errors.Join(err, b.Close())
	}
	how := pebble.NoSync
	if sync {
		how = pebble.Sync
	}
	if err := b.Commit(how); err != nil {
		return err
	}
	return b.Close()
}

// sync has all that was committed be on disk.
func (e *engine) sync() error {
	return e.commit(true, func(b *batch) error { return b.LogData([]byte{0}, nil) })
}

// cursor returns one for the keys from lower on, below upper. It is to be closed.
func (e *engine) cursor(lower, upper []byte) (*cursor, error) {
	return e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
}

// size returns the bytes taken on disk.
func (e *engine) size() (n int64) {
	e.call(func() { n = int64(min(e.db.Metrics().DiskSpaceUsage(), math.MaxInt64)) })
	return n
}

// full reports whether the disk has no room for more: what is left is needed to tidy up.
func (e *engine) full() bool {
	u, err := e.fs.GetDiskUsage(e.dir)
	return err == nil && u.AvailBytes < e.reserve
}

// patience is how long an engine that failed may take to end: it may wait for itself for ever.
const patience = 5 * time.Second

// close ends the engine. Of one that failed, all has been said.
func (e *engine) close() (err error) {
	if e.err() == nil {
		e.call(func() { err = e.db.Close() })
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() { _ = recover() }() // it is beyond help
		_ = e.db.Close()
	}()
	select {
	case <-ended:
	case <-time.After(patience):
	}
	return nil
}

// fatal is how the engine leaves a commit that failed.
type fatal struct{ err error }

// logger hears what the engine has to say: only that it cannot go on.
type logger struct{ e *engine }

func (logger) Infof(string, ...any)  {}
func (logger) Errorf(string, ...any) {}

// Fatalf does not return: the engine takes it for the end of the process. In a commit it is an
// error of that; a goroutine of the engine's own ends.
func (l logger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	l.e.fail(err)
	if strings.Contains(format, "commit error") || l.e.db == nil {
		panic(fatal{err})
	}
	runtime.Goexit()
}
