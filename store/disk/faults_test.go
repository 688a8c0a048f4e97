package disk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
)

// feed appends n messages to a log and records them.
func feed(t *testing.T, l store.Log, r *record, n int) {
	t.Helper()
	for i := range n {
		text := fmt.Sprintf("%d %d %016x", len(r.sent), i, rand.Uint64())
		r.send(text)
		id, err := say(l, text)
		if err != nil {
			t.Fatal(err)
		}
		r.ack(id.String(), text)
	}
}

func say(l store.Log, text string) (store.ID, error) {
	m := store.Message{Group: "a", Time: time.Now(), Msg: store.AppendQuote(nil, text)}
	return l.Append(context.Background(), []store.Entry{m.Entry(nil)})
}

// written makes a store with n messages.
func written(t *testing.T, fs vfs.FS, n int) *record {
	t.Helper()
	r := newRecord()
	l, err := disk.Open(powerOptions(fs, disk.Always))
	if err != nil {
		t.Fatal(err)
	}
	feed(t, l, r, n)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return r
}

// bytesOf reads a file.
func bytesOf(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

func replace(t *testing.T, fs vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(bytes.Clone(b)) // Write may change its argument
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// newest returns the last file of a kind in a log's folder.
func newest(t *testing.T, fs vfs.FS, part string) string {
	t.Helper()
	list, err := fs.List("store/log")
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for _, name := range list {
		if strings.Contains(name, part) && name > last && !strings.HasPrefix(name, "marker") {
			last = name
		}
	}
	if last == "" {
		t.Fatalf("no %s among %v", part, list)
	}
	return path.Join("store/log", last)
}

// damaged opens a log whose bytes were changed. Open may fail with an error of one line. Otherwise each message
// read must be as it was appended, and each lost one covered by a gap, unless mayLose allows its loss.
func damaged(t *testing.T, fs vfs.FS, r *record, mayLose func(id string) bool) (opened bool) {
	t.Helper()
	l, err := disk.Open(powerOptions(fs, disk.Always))
	if err != nil {
		if s := err.Error(); strings.Contains(s, "\n") || !strings.Contains(s, "store") {
			t.Errorf("Open failed with %q", s)
		}
		return false
	}
	got, gaps, _ := all(l, "#") // data that cannot be read is an error
	then := r.copy()
	then.judge(got, func(id string) bool { return mayLose(id) || covered(id, gaps) })
	then.verdict(t)
	before := then.copy()
	if id, err := say(l, "later"); err == nil {
		before.ack(id.String(), "later") // the id must be new
		before.verdict(t)
	}
	_ = l.Close() // it may have failed
	return true
}

// TestDamagedDataIsNeverServed cuts the engine's log at many places, and flips bits in it, in a table and in the
// list of tables.
func TestDamagedDataIsNeverServed(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	r := newRecord()
	l, err := disk.Open(powerOptions(mem, disk.Always))
	if err != nil {
		t.Fatal(err)
	}
	feed(t, l, r, 30)
	_, last := l.Bounds()
	rng := rand.New(rand.NewPCG(3, 4))
	picture := func() *vfs.MemFS { return mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng}) }
	whole := picture()
	log := newest(t, whole, ".log")
	b := bytesOf(t, whole, log)
	ends := chunks(b)
	opened := 0
	for cut := len(b); cut > len(b)-700 && cut > 0; cut -= 13 {
		fs := picture()
		replace(t, fs, log, b[:cut])
		mayLose := never
		if ends[cut] || cut%512 == 0 { // looks like a log after a kill: the loss cannot be noticed
			mayLose = always
		}
		if damaged(t, fs, r, mayLose) {
			opened++
		}
	}
	if opened < 40 {
		t.Errorf("only %d of 54 logs with a torn tail can be opened", opened)
	}
	for range 60 {
		fs := picture()
		flip(t, fs, log, len(b)-min(len(b), 4096), rng)
		damaged(t, fs, r, func(id string) bool { return id == last.String() }) // its Append may have been in progress
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = disk.Open(powerOptions(mem, disk.Always)) // which writes a table from the log
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	whole = picture()
	for _, name := range []string{newest(t, whole, ".sst"), newest(t, whole, "MANIFEST-")} {
		for range 60 {
			fs := picture()
			flip(t, fs, name, 0, rng)
			damaged(t, fs, r, never)
		}
	}
}

// chunks returns where the chunks of the engine's log end. The log must have only one block.
func chunks(log []byte) map[int]bool {
	ends := map[int]bool{}
	for at := 0; at+11 <= len(log); ends[at] = true {
		at += 11 + int(log[at+4]) + int(log[at+5])<<8
	}
	return ends
}

// TestADamagedRecordIsReportedAsAGap damages a log in ways that a kill never does: it cuts a file off inside a
// sector, and overwrites a page before others that are valid.
func TestADamagedRecordIsReportedAsAGap(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(b []byte) []byte{
		"cut off inside a sector": func(b []byte) []byte { return b[:64<<10+777] },
		"a page is zero":          func(b []byte) []byte { clear(b[64<<10 : 68<<10]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			r := newRecord()
			l, err := disk.Open(disk.Options{Dir: "store", MaxMemory: 8 << 20}.On(mem).Recalling(1))
			if err != nil {
				t.Fatal(err)
			}
			for i := range 8 {
				acknowledge(t, l, r, fmt.Sprint(i, strings.Repeat("x", 50_000))) // longer than a block of the engine's log
			}
			fs := mem.CrashClone(vfs.CrashCloneCfg{})
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			log := newest(t, fs, ".log")
			b := bytesOf(t, fs, log)
			replace(t, fs, log, harm(bytes.Clone(b)))
			if len(b) < 128<<10 || !damaged(t, fs, r, never) {
				t.Errorf("the log of %d bytes cannot be opened", len(b))
			}
		})
	}
}

// acknowledge appends a text and notes it.
func acknowledge(t *testing.T, l store.Log, r *record, text string) {
	t.Helper()
	r.send(text)
	id, err := say(l, text)
	if err != nil {
		t.Fatal(err)
	}
	r.ack(id.String(), text)
}

// flip changes a bit of a file at or after an offset.
func flip(t *testing.T, fs vfs.FS, name string, from int, rng *rand.Rand) {
	t.Helper()
	b := bytesOf(t, fs, name)
	b[from+rng.IntN(len(b)-from)] ^= 1 << rng.IntN(8)
	replace(t, fs, name, b)
}

// narrow is a file system that reports a given number of free bytes.
type narrow struct {
	vfs.FS
	room atomic.Uint64
}

// GetDiskUsage implements vfs.FS.
func (n *narrow) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: n.room.Load(), TotalBytes: 1 << 40}, nil
}

// TestAFullDiskRefusesMessagesUntilThereIsRoom: they are refused at once, and all other calls still work.
func TestAFullDiskRefusesMessagesUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	fs := &narrow{FS: vfs.NewMem()}
	fs.room.Store(1 << 30)
	l, err := disk.Open(powerOptions(fs, disk.Always))
	if err != nil {
		t.Fatal(err)
	}
	r := newRecord()
	for range 3 {
		feed(t, l, r, 10)
		fs.room.Store(1 << 20)
		if _, err := say(l, "refused"); !errors.Is(err, store.ErrFull) {
			t.Errorf("a full disk: %v", err)
		}
		got, _, err := all(l, "#")
		if err != nil {
			t.Error(err)
		}
		r.judge(got, never)
		if err := l.Err(); !errors.Is(err, store.ErrFull) {
			t.Errorf("Err on a full disk: %v", err)
		}
		fs.room.Store(1 << 30)
		if err := l.Err(); err != nil {
			t.Errorf("Err with room on the disk: %v", err)
		}
	}
	r.verdict(t)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestAFailingFsyncMakesTheLogReadOnly: a disk cannot be trusted after an error, so the log ends writing. The
// acknowledged messages can still be read, also after the log is opened again.
func TestAFailingFsyncMakesTheLogReadOnly(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	var fails atomic.Bool
	var syncs atomic.Int64
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			if fails.Load() {
				syncs.Add(1)
				return syscall.EIO
			}
		}
		return nil
	}))
	l, err := disk.Open(powerOptions(fs, disk.Always))
	if err != nil {
		t.Fatal(err)
	}
	r := newRecord()
	feed(t, l, r, 20)
	_, newest := l.Bounds()
	fails.Store(true)
	r.send("lost")
	if _, err := say(l, "lost"); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("an fsync that fails: %v", err)
	}
	tried := syncs.Load()
	fails.Store(false) // the disk reports no more errors
	for range 3 {
		if _, err := say(l, "never sent"); !errors.Is(err, store.ErrReadOnly) {
			t.Errorf("append after a failed fsync: %v", err)
		}
	}
	if n := syncs.Load(); n != tried || tried == 0 {
		t.Errorf("%d syncs failed, and %d were tried afterwards", tried, n-tried)
	}
	if err := l.Err(); !errors.Is(err, store.ErrReadOnly) || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("Err: %v", err)
	}
	got, _, err := all(l, "#")
	if _, now := l.Bounds(); err != nil || now != newest || len(got) != 20 {
		t.Errorf("read %d messages; the newest is %v, want %v: %v", len(got), now, newest, err)
	}
	r.judge(got, never)
	left := mem.CrashClone(vfs.CrashCloneCfg{})
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	l, err = disk.Open(powerOptions(left, disk.Always))
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err = all(l, "#"); err != nil {
		t.Error(err)
	}
	r.judge(got, never)
	r.verdict(t)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestAForeignFolderIsRefused: a folder that another process uses, one of a newer version, and one with other
// files.
func TestAForeignFolderIsRefused(t *testing.T) {
	t.Parallel()
	refused := func(dir string, fs vfs.FS, want string) {
		t.Helper()
		l, err := disk.Open(disk.Options{Dir: dir}.On(fs))
		if err == nil {
			_ = l.Close()
			t.Fatalf("%s was opened", dir)
		}
		if s := err.Error(); !strings.Contains(s, want) || !strings.Contains(s, dir) || strings.Contains(s, "\n") {
			t.Errorf("opening %s failed with %q, want %q", dir, s, want)
		}
	}
	dir := tempDir(t)
	l, err := disk.Open(disk.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	refused(dir, vfs.Default, "another process uses it")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mem := vfs.NewMem()
	for _, err := range []error{mem.MkdirAll("newer", 0o700), mem.MkdirAll("other", 0o700), mem.MkdirAll("strange", 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	replace(t, mem, "newer/watchbox", []byte("watchbox disk store, format 2\n"))
	refused("newer", mem, "format 2")
	replace(t, mem, "strange/watchbox", []byte("\x7fELF"))
	refused("strange", mem, "does not say what it is")
	replace(t, mem, "other/letter.txt", []byte("Dear"))
	refused("other", mem, "letter.txt")
	if err := mem.MkdirAll("logs/log", 0o700); err != nil {
		t.Fatal(err)
	}
	replace(t, mem, "logs/log/000012.log", []byte("GET /"))
	refused("logs", mem, "has log in it")
}

// TestALossAfterACleanCloseIsReportedAsAGap cuts the end off a log that was closed. Its last id is known, so
// every loss is noticed.
func TestALossAfterACleanCloseIsReportedAsAGap(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	r := written(t, mem, 30)
	picture := func() *vfs.MemFS { return mem.CrashClone(vfs.CrashCloneCfg{}) }
	log := newest(t, picture(), ".log")
	b := bytesOf(t, picture(), log)
	for end := range chunks(b) {
		fs := picture()
		replace(t, fs, log, b[:end])
		if end > 500 && !damaged(t, fs, r, never) {
			t.Errorf("the log cut at %d cannot be opened", end)
		}
	}
}

// TestOpenFailsWithoutTheIDsFile: without the file, Open could give out ids a second time.
func TestOpenFailsWithoutTheIDsFile(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(fs vfs.FS) error{
		"ids":          func(fs vfs.FS) error { return fs.Remove("store/ids") },
		"ids and logs": func(fs vfs.FS) error { return errors.Join(fs.Remove("store/ids"), fs.RemoveAll("store/log")) },
		"half of them": func(fs vfs.FS) error { replace(t, fs, "store/ids", []byte("abc 1 7")); return nil },
	} {
		mem := vfs.NewMem()
		written(t, mem, 3)
		if err := harm(mem); err != nil {
			t.Fatal(err)
		}
		if l, err := disk.Open(powerOptions(mem, disk.Always)); err == nil {
			_ = l.Close()
			t.Errorf("without %s the store can be opened", name)
		} else if s := err.Error(); !strings.Contains(s, "ids") || strings.Contains(s, "\n") {
			t.Errorf("without %s Open failed with %q", name, s)
		}
	}
}

// spoiled is a file system on which one table is missing or cannot be read. It has no room to merge tables, so
// that the engine does not replace the table.
type spoiled struct {
	narrow
	table   string
	missing bool
	armed   atomic.Bool // reads of the table return wrong data
}

// Open implements vfs.FS.
func (s *spoiled) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if s.PathBase(name) != s.table {
		return s.FS.Open(name, opts...)
	}
	if s.missing {
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	}
	f, err := s.FS.Open(name, opts...)
	return &spoiledFile{f, s}, err
}

type spoiledFile struct {
	vfs.File
	fs *spoiled
}

// ReadAt implements vfs.File.
func (f *spoiledFile) ReadAt(p []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(p, at)
	if f.fs.armed.Load() && n > 0 {
		p[n/2] ^= 1
	}
	return n, err
}

// messageTables returns the names of a log's tables with messages.
func messageTables(t *testing.T, fs vfs.FS) (list []string) {
	t.Helper()
	names, err := fs.List("store/log")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names) // the order of List is random
	for _, name := range names {
		if info, err := fs.Stat(path.Join("store/log", name)); err != nil {
			t.Fatal(err)
		} else if strings.HasSuffix(name, ".sst") && info.Size() > 8<<10 {
			list = append(list, name)
		}
	}
	if len(list) < 5 {
		t.Fatalf("%d tables have messages: the test proves nothing", len(list))
	}
	return list
}

// TestABadTableIsAnErrorForItsReaders damages one table after another. Reads return an error, the process goes
// on, messages can be appended unless the engine has noticed the damage, and the log can be closed. If Open needs
// a missing table, it fails.
func TestABadTableIsAnErrorForItsReaders(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	rng := rand.New(rand.NewPCG(5, 6))
	l, err := disk.Open(powerOptions(mem, disk.Always))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := sayLong(l, fmt.Sprint(i, strings.Repeat(fmt.Sprint(rng.Uint64()), 500))); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, table := range some(messageTables(t, mem), 5*scale) {
		for _, missing := range []bool{false, true} {
			fs := &spoiled{table: table, missing: missing}
			fs.FS = mem.CrashClone(vfs.CrashCloneCfg{})
			fs.room.Store(1 << 20)
			l, err := disk.Open(powerOptions(fs, disk.Always))
			if err != nil {
				if !missing || !strings.Contains(err.Error(), table+" is missing") || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s (missing: %v): Open failed with %q", table, missing, err)
				}
				continue
			}
			fs.armed.Store(true)
			if got, _, err := all(l, "#"); err == nil {
				t.Errorf("%s (missing: %v): %d messages are read without an error", table, missing, len(got))
			}
			for _, start := range []store.Start{{Last: 100}, {Since: time.Now().Add(-time.Hour)}} {
				pos, err := l.Find(filtersOf("#"), start)
				if err == nil && pos > 0 {
					t.Errorf("%s (missing: %v): messages of %+v begin after %d", table, missing, start, pos)
				}
			}
			fs.room.Store(1 << 40)
			if _, err := say(l, "later"); err != nil && !errors.Is(err, store.ErrReadOnly) {
				t.Error(err)
			}
			_ = l.Close() // it may have failed
		}
	}
}

// TestALostLogGivesNoIDTwice removes or empties the engine's newest log after a start. Its messages are reported
// as a gap, and no id is given out twice.
func TestALostLogGivesNoIDTwice(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(t *testing.T, fs vfs.FS){
		"removed": func(t *testing.T, fs vfs.FS) {
			if err := fs.Remove(newest(t, fs, ".log")); err != nil {
				t.Fatal(err)
			}
		},
		"emptied": func(t *testing.T, fs vfs.FS) { replace(t, fs, newest(t, fs, ".log"), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			r := newRecord()
			for life := range 2 {
				l, err := disk.Open(powerOptions(mem, disk.Always))
				if err != nil {
					t.Fatal(err)
				}
				feed(t, l, r, 20)
				if life == 0 {
					if err := l.Close(); err != nil {
						t.Fatal(err)
					}
					continue
				}
				defer func() { _ = l.Close() }()
			}
			fs := mem.CrashClone(vfs.CrashCloneCfg{})
			harm(t, fs)
			if !damaged(t, fs, r, never) {
				t.Error("the store cannot be opened")
			}
		})
	}
}

// TestOpenFailsWithoutTheEngineFiles: Open must not start an empty log in place of the missing one.
func TestOpenFailsWithoutTheEngineFiles(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	for range 2 { // the second run writes a table from the log of the first
		written(t, mem, 3)
	}
	list, err := mem.List("store/log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		if strings.HasPrefix(name, "marker.manifest") {
			if err := mem.Remove("store/log/" + name); err != nil {
				t.Fatal(err)
			}
		}
	}
	l, err := disk.Open(powerOptions(mem, disk.Always))
	if err == nil {
		_ = l.Close()
		t.Fatal("Open started an empty log")
	}
	if s := err.Error(); !strings.Contains(s, "restore a backup") || strings.Contains(s, "\n") {
		t.Errorf("Open failed with %q", s)
	}
}

// TestFsyncNeverSyncsSoon: with --fsync never, messages are synced shortly after they were appended.
func TestFsyncNeverSyncsSoon(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	turned := make(chan struct{}, 1)
	l, err := disk.Open(powerOptions(mem, disk.Never).Watched(waker(turned)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	r := newRecord()
	feed(t, l, r, 3)
	until(t, turned, "the messages are on disk", func() bool {
		left, err := disk.Open(powerOptions(mem.CrashClone(vfs.CrashCloneCfg{}), disk.Never))
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := all(left, "#")
		if err := errors.Join(err, left.Close()); err != nil {
			t.Fatal(err)
		}
		return len(got) == 3
	})
}
