package disk_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
)

// The environment of a child that writes to a log until it is killed.
const (
	victimDir   = "WATCHBOX_TEST_VICTIM"       // where the log is
	victimFsync = "WATCHBOX_TEST_VICTIM_FSYNC" // always, never or a duration
)

// victim appends messages until it is killed. It prints a line before each message, and a line with its id
// afterwards.
func victim(dir, fsync string) {
	mode, err := disk.ParseFsync(fsync)
	var l *disk.Log
	if err == nil {
		l, err = disk.Open(disk.Options{Dir: dir, MaxMemory: 4 << 20, Fsync: mode})
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	say("open")
	life := time.Now().UnixNano()
	for w := range 8 {
		go func() {
			for n := 0; ; n++ {
				var entries []store.Entry
				for k := range 1 + n%3 {
					text := fmt.Sprintf("%d-%d-%d-%d %s", life, w, n, k, strings.Repeat("x", rand.IntN(600)))
					say("send %s", text)
					m := store.Message{Group: fmt.Sprint("g/", w%3), Time: time.Now(), Msg: store.AppendQuote(nil, text)}
					entries = append(entries, m.Entry(nil))
				}
				id, err := l.Append(context.Background(), entries)
				if err != nil {
					say("error %v", err)
					return
				}
				for _, e := range entries {
					say("ack %v %s", id, store.Unquote(nil, e.Message.Msg))
					id.Seq++
				}
			}
		}()
	}
	select {}
}

// TestAKillAtAnyMomentLosesAndRepeatsNothing repeatedly kills a process that writes, and checks the log that it
// leaves. This holds for every fsync value, since the power is not cut.
func TestAKillAtAnyMomentLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	for fsync, n := range map[string]int{"always": 12, "5ms": 3, "1h": 3, "never": 3} {
		t.Run(fsync, func(t *testing.T) {
			dir, r, acked, gapped, gap := tempDir(t), newRecord(), 0, 0, store.Seq(0)
			n := n * scale
			for range n {
				kill(t, dir, fsync, r)
				l, err := disk.Open(disk.Options{Dir: dir, Fsync: disk.Never}.Recalling(1))
				if err != nil {
					t.Fatal(err)
				}
				got, gaps, err := all(l, "#")
				if err != nil {
					t.Fatal(err)
				}
				r.judge(got, never)
				for _, g := range gaps {
					if g.Evicted > gap {
						gap = g.Evicted
						gapped++
					}
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if len(r.wrong) > 0 {
					break
				}
			}
			r.verdict(t)
			if acked = len(r.acked); acked < n {
				t.Errorf("only %d messages were acknowledged in %d rounds: the test proves nothing", acked, n)
			}
			if fsync == "always" && gapped > 0 {
				t.Errorf("gaps are reported in %d of %d rounds, though nothing was lost", gapped, n)
			}
			t.Logf("%d rounds, %d messages sent, %d acknowledged, gaps in %d", n, len(r.sent), acked, gapped)
		})
	}
}

// covered reports whether a gap covers an id.
func covered(id string, gaps []store.Gap) bool {
	at, err := store.ParseID(id)
	for _, g := range gaps {
		if err == nil && at.Seq <= g.Evicted {
			return true
		}
	}
	return false
}

// kill starts a child and kills it when it has opened the log and written some more lines.
func kill(t *testing.T, dir, fsync string, r *record) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), victimDir+"="+dir, victimFsync+"="+fsync)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var late atomic.Bool
	watchdog := time.AfterFunc(testTimeout, func() { late.Store(true); _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	in := bufio.NewReader(out)
	open, lines := false, 1+rand.IntN(1500)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break // the message of a partial line was not acknowledged
		}
		line = strings.TrimSuffix(line, "\n")
		if open {
			if lines--; lines == 0 {
				_ = cmd.Process.Kill()
			}
		}
		switch kind, rest, _ := strings.Cut(line, " "); kind {
		case "open":
			open = true
		case "send":
			r.send(rest)
		case "ack":
			id, text, _ := strings.Cut(rest, " ")
			r.ack(id, text)
		default:
			t.Errorf("the child printed %q", line)
		}
	}
	_ = cmd.Wait() // it was killed
	if late.Load() {
		t.Fatal("the child did not open the log")
	}
}

// killer simulates a kill in the middle of a write to the engine's log. It keeps all earlier writes, and the
// beginning of the last one up to a page boundary.
type killer struct {
	vfs.FS
	mem   *vfs.MemFS
	after int // pages to write before the kill; 0: no kill
	cut   int // offset of the kill in the file
	left  *vfs.MemFS
}

// ReuseForWrite implements vfs.FS.
func (k *killer) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := k.FS.ReuseForWrite(old, name, c)
	if err == nil {
		f = &killerFile{File: f, k: k}
	}
	return f, err
}

// Create implements vfs.FS.
func (k *killer) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := k.FS.Create(name, c)
	if strings.HasSuffix(name, ".log") && err == nil {
		f = &killerFile{File: f, k: k}
	}
	return f, err
}

type killerFile struct {
	vfs.File
	k  *killer
	at int // where the next write begins
}

const page = 4096

// Write implements vfs.File.
func (f *killerFile) Write(p []byte) (n int, err error) {
	if f.k.after > 0 && f.k.cut == 0 {
		f.k.cut = (f.at/page + f.k.after) * page
	}
	if cut := f.k.cut - f.at; f.k.cut > 0 && f.k.left == nil && cut < len(p) {
		if n, err = f.File.Write(p[:cut]); err != nil {
			return n, err
		}
		f.k.left = f.k.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
	}
	m, err := f.File.Write(p[n:])
	f.at += n + m
	return n + m, err
}

// TestAKillInTheMiddleOfAWriteCausesNoGap: the message that is cut off was not acknowledged, and no acknowledged
// one is lost. The log is a new file, or a reused one with old content after the cut.
func TestAKillInTheMiddleOfAWriteCausesNoGap(t *testing.T) {
	t.Parallel()
	for _, before := range []int{0, 200} { // messages; 200 fill several logs, whose files are reused
		for _, pages := range []int{1, 2, 7, 8, 9, 15, 16, 23} { // 8 pages are a block
			mem := vfs.NewCrashableMem()
			k := &killer{FS: mem, mem: mem}
			l, err := disk.Open(powerOptions(k, disk.Always))
			if err != nil {
				t.Fatal(err)
			}
			r := newRecord()
			for i := range before {
				acknowledge(t, l, r, fmt.Sprint(i, strings.Repeat("x", 5000)))
			}
			feed(t, l, r, 20)
			k.after = pages
			then := r.copy()
			if _, err := say(l, "cut off"+strings.Repeat("x", 100_000)); err != nil { // several blocks of the log
				t.Fatal(err)
			}
			then.sent["cut off"+strings.Repeat("x", 100_000)] = true
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if k.left == nil {
				t.Fatal("no write was cut: the test proves nothing")
			}
			if l, err = disk.Open(powerOptions(k.left, disk.Always)); err != nil {
				t.Fatal(err)
			}
			got, gaps, err := all(l, "#")
			if err := errors.Join(err, l.Close()); err != nil {
				t.Fatal(err)
			}
			then.judge(got, never)
			then.verdict(t)
			if len(gaps) > 0 {
				t.Errorf("cut after %d pages and %d messages: there is a gap up to %d", pages, before, gaps[0].Evicted)
			}
		}
	}
}
