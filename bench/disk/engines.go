package main

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// engine stores messages durably.
type engine interface {
	// commit writes messages, numbered from first on, and returns when they are durable.
	commit(first uint64, msgs [][]byte) error
	// scan calls f for each message.
	scan(f func(msg []byte)) error
	close() error
}

var kinds = []struct {
	name    string
	open    func(dir string) (engine, error)
	grouped bool // one committer takes all waiting messages; otherwise each message is a commit
}{
	{"bare file: write, fdatasync", openFile, true},
	{"Pebble, grouped", openPebble, true},
	{"bbolt, grouped", openBolt, true},
	{"Pebble, a commit each", openPebble, false},
	{"bbolt, a transaction each", openBolt, false},
}

func engines(s settings) error {
	fmt.Printf("messages of %d bytes a second, each durable before it is acknowledged\n\n", s.size)
	fmt.Printf("| engine | 1 | 16 | 256 committers | bytes on disk a message | scan, messages/s |\n| --- | --- | --- | --- | --- | --- |\n")
	for i, k := range kinds {
		fmt.Printf("| %s ", k.name)
		for _, n := range []int{1, 16, 256} {
			dir := filepath.Join(s.dir, fmt.Sprint(i, "-", n))
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			e, err := k.open(dir)
			if err != nil {
				return err
			}
			rate, total, err := load(e, s, n, k.grouped)
			if err != nil {
				return err
			}
			fmt.Printf("| %.0f ", rate)
			if n == 256 {
				read, err := scanRate(e, total)
				if err != nil {
					return err
				}
				if err := e.close(); err != nil {
					return err
				}
				fmt.Printf("| %d | %.0f ", sizeOf(dir)/int64(total), read)
			} else if err := e.close(); err != nil {
				return err
			}
		}
		fmt.Println("|")
	}
	return nil
}

// request is a message that waits for its commit.
type request struct {
	msg  []byte
	done chan error
}

// load runs n committers, each of which writes one message at a time.
func load(e engine, s settings, n int, grouped bool) (rate float64, total uint64, err error) {
	var count atomic.Uint64
	var seq atomic.Uint64
	var failed atomic.Pointer[error]
	in := make(chan request, n)
	var committer, writers sync.WaitGroup
	if grouped {
		committer.Go(func() { group(e, in) })
	}
	began := time.Now()
	for range n {
		writers.Go(func() {
			msg := make([]byte, s.size)
			_, _ = rand.Read(msg) // cannot be compressed
			r := request{msg, make(chan error, 1)}
			for time.Since(began) < s.dur {
				var err error
				if grouped {
					in <- r
					err = <-r.done
				} else {
					err = e.commit(seq.Add(1), [][]byte{msg})
				}
				if err != nil {
					failed.Store(&err)
					return
				}
				count.Add(1)
			}
		})
	}
	writers.Wait()
	close(in)
	committer.Wait()
	if p := failed.Load(); p != nil {
		return 0, 0, *p
	}
	return float64(count.Load()) / time.Since(began).Seconds(), count.Load(), nil
}

// group commits all waiting messages together, in a loop.
func group(e engine, in chan request) {
	var seq uint64 = 1
	for r := range in {
		batch := []request{r}
		for more := true; more; {
			select {
			case r, ok := <-in:
				if more = ok; ok {
					batch = append(batch, r)
				}
			default:
				more = false
			}
		}
		msgs := make([][]byte, len(batch))
		for i := range batch {
			msgs[i] = batch[i].msg
		}
		err := e.commit(seq, msgs)
		seq += uint64(len(msgs))
		for _, r := range batch {
			r.done <- err
		}
	}
}

func scanRate(e engine, total uint64) (float64, error) {
	began, n := time.Now(), uint64(0)
	err := e.scan(func([]byte) { n++ })
	if err == nil && n > 0 && n < total {
		err = fmt.Errorf("%d messages of %d", n, total)
	}
	return float64(n) / time.Since(began).Seconds(), err
}

func sizeOf(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if i, err := d.Info(); err == nil {
				n += i.Size()
			}
		}
		return nil
	})
	return n
}

func key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

type file struct{ f *os.File }

func openFile(dir string) (engine, error) {
	f, err := os.Create(filepath.Join(dir, "log"))
	return file{f}, err
}

func (e file) commit(_ uint64, msgs [][]byte) error {
	var all []byte
	for _, m := range msgs {
		all = append(all, m...)
	}
	if _, err := e.f.Write(all); err != nil {
		return err
	}
	return unix.Fdatasync(int(e.f.Fd()))
}

func (e file) scan(func([]byte)) error { return nil }
func (e file) close() error            { return e.f.Close() }

type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(string, ...any)             {}
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

type pebbleDB struct{ db *pebble.DB }

func openPebble(dir string) (engine, error) {
	db, err := pebble.Open(dir, &pebble.Options{Logger: quiet{}, FormatMajorVersion: pebble.FormatNewest})
	return pebbleDB{db}, err
}

func (e pebbleDB) commit(first uint64, msgs [][]byte) error {
	b := e.db.NewBatch()
	defer b.Close()
	for i, m := range msgs {
		if err := b.Set(key(first+uint64(i)), m, nil); err != nil {
			return err
		}
	}
	return b.Commit(pebble.Sync)
}

func (e pebbleDB) scan(f func([]byte)) error {
	it, err := e.db.NewIter(nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		f(it.Value())
	}
	return it.Close()
}

func (e pebbleDB) close() error { return e.db.Close() }

type boltDB struct{ db *bbolt.DB }

var bucket = []byte("log")

func openBolt(dir string) (engine, error) {
	db, err := bbolt.Open(filepath.Join(dir, "log"), 0o600, nil)
	if err != nil {
		return nil, err
	}
	return boltDB{db}, db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
}

func (e boltDB) commit(first uint64, msgs [][]byte) error {
	return e.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		b.FillPercent = 0.9
		for i, m := range msgs {
			if err := b.Put(key(first+uint64(i)), m); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e boltDB) scan(f func([]byte)) error {
	return e.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(_, v []byte) error { f(v); return nil })
	})
}

func (e boltDB) close() error { return e.db.Close() }
