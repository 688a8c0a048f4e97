package disk_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
)

// The environment of a child that writes to a log until it is killed.
const (
	victimDir   = "WATCHBOX_TEST_VICTIM"       // where the log is
	victimFsync = "WATCHBOX_TEST_VICTIM_FSYNC" // always, never or a duration
	killRounds  = "WATCHBOX_TEST_KILL_ROUNDS"  // how often; make test: 15
)

// victim appends messages until it is killed. It says so before each, and afterwards under which
// id: a line each on standard output.
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

// rounds is how often the child is killed.
func rounds(t *testing.T, most int) int {
	if s := os.Getenv(killRounds); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return most
}

// TestKilledAtAnyMomentNothingIsLostOrRepeated kills a process that writes, again and again, and
// looks at what it leaves behind: whatever fsync says, for it is not the power that is cut.
func TestKilledAtAnyMomentNothingIsLostOrRepeated(t *testing.T) {
	for fsync, n := range map[string]int{"always": 12, "5ms": 3, "1h": 3, "never": 3} {
		t.Run(fsync, func(t *testing.T) {
			dir, r, acked, gapped, gap := tempDir(t), newRecord(), 0, 0, store.Seq(0)
			n := rounds(t, n)
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
				t.Errorf("only %d messages were acknowledged in %d rounds: the test tests nothing", acked, n)
			}
			if fsync == "always" && gapped > n/4 { // one or the other may be killed in the middle of a write
				t.Errorf("gaps are told in %d of %d rounds, and nothing was lost", gapped, n)
			}
			t.Logf("%d rounds, %d messages sent, %d acknowledged, gaps in %d", n, len(r.sent), acked, gapped)
		})
	}
}

// told reports whether a gap reaches to an id.
func told(id string, gaps []store.Gap) bool {
	at, err := store.ParseID(id)
	for _, g := range gaps {
		if err == nil && at.Seq <= g.Evicted {
			return true
		}
	}
	return false
}

// kill starts a child and kills it a moment after its first acknowledgement or before.
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
	watchdog := time.AfterFunc(30*time.Second, func() { late.Store(true); _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break // a line that was cut off is of no message that was acknowledged to us
		}
		line = strings.TrimSuffix(line, "\n")
		switch kind, rest, _ := strings.Cut(line, " "); kind {
		case "open":
			wait := time.Duration(rand.IntN(int(150 * time.Millisecond)))
			time.AfterFunc(wait, func() { _ = cmd.Process.Kill() })
		case "send":
			r.send(rest)
		case "ack":
			id, text, _ := strings.Cut(rest, " ")
			r.ack(id, text)
		default:
			t.Errorf("the child says %q", line)
		}
	}
	_ = cmd.Wait() // it was killed
	if late.Load() {
		t.Fatal("the child did not open the log")
	}
}
