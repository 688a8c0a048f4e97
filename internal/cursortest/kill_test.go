package cursortest_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
)

// victimDir is the environment variable that makes the test a process which saves positions in a directory until it is
// killed.
const victimDir = "WATCHBOX_TEST_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir)
	}
	os.Exit(m.Run())
}

// open opens the positions in a directory.
func open(dir string) (*disk.Log, *cursor.Set, error) {
	l, err := disk.Open(disk.Options{Dir: dir})
	if err != nil {
		return nil, nil, err
	}
	s := cursor.New(cursor.Options{Log: l, Interval: 5 * time.Millisecond})
	return l, s, l.Notes(func(n store.Note) error { return s.Learn(n) })
}

// marked returns a position whose parts say its number.
func marked(key string, n int) *cursor.Position {
	return &cursor.Position{
		Key: key, Epoch: "e", Done: store.Seq(n), Read: store.Seq(n + 1), Expiry: cursor.ForEver, Data: fmt.Append(nil, n),
		Filters: []cursor.Filter{{Filter: fmt.Sprint("f/", n)}}, Window: []cursor.Unacked{{Seq: store.Seq(n + 1), Tag: uint16(n)}},
	}
}

// victim saves positions with rising numbers in four goroutines, five each. It prints a line before each Save, and one
// after each Flush.
func victim(dir string) {
	_, s, err := open(dir)
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
	for w := range 4 {
		go func() {
			ctx := context.Background()
			for n := 0; ; n++ {
				key := fmt.Sprint("k", w, "/", n%5)
				p, _, err := s.Claim(ctx, key)
				done := int(p.Done) + 1
				say("save %s %d", key, done)
				if err == nil {
					err = s.Save(marked(key, done))
				}
				if err == nil && rand.IntN(4) == 0 {
					if err = s.Flush(ctx, key); err == nil {
						say("flush %s %d", key, done)
					}
				}
				if err != nil {
					say("error %v", err)
					return
				}
			}
		}()
	}
	select {}
}

// TestAKillAtAnyMomentSkipsNothingAndLosesNothingThatWasFlushed kills a process that saves positions, again and again.
func TestAKillAtAnyMomentSkipsNothingAndLosesNothingThatWasFlushed(t *testing.T) {
	dir := t.TempDir()
	saved, flushed := map[string]int{}, map[string]int{}
	for range 12 {
		kill(t, dir, saved, flushed)
		l, s, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for key, most := range saved {
			p, ok := s.Get(key)
			n := int(p.Done)
			if want := marked(key, n); ok && fmt.Sprint(p.Filters, p.Window, p.Read, string(p.Data)) != fmt.Sprint(want.Filters, want.Window, want.Read, string(want.Data)) {
				t.Errorf("%s is %+v", key, p)
			}
			if n > most || n < flushed[key] || ok && p.Away.IsZero() {
				t.Errorf("%s is number %d, flushed was %d and saved %d", key, n, flushed[key], most)
			}
			saved[key], flushed[key] = n, n
		}
		s.Close()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(flushed) != 20 {
		t.Errorf("%d positions were saved: the test proves nothing", len(flushed))
	}
}

// kill starts a process and kills it when it has printed some lines. It notes what was saved and flushed.
func kill(t *testing.T, dir string, saved, flushed map[string]int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), victimDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(5*time.Minute, func() { _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	in, lines := bufio.NewReader(out), 100+rand.IntN(1500)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break // a partial line proves nothing
		}
		if lines--; lines == 0 {
			_ = cmd.Process.Kill()
		}
		var key string
		var n int
		switch kind, rest, _ := strings.Cut(strings.TrimSpace(line), " "); kind {
		case "open":
		case "save":
			if _, err := fmt.Sscan(rest, &key, &n); err == nil {
				saved[key] = n
			}
		case "flush":
			if _, err := fmt.Sscan(rest, &key, &n); err == nil {
				flushed[key] = n
			}
		default:
			t.Errorf("the process printed %q", line)
		}
	}
	_ = cmd.Wait() // it was killed
	if lines > 0 {
		t.Fatal("the process ended by itself")
	}
}
