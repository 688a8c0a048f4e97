package api_test

import (
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/api"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
)

// gatedReads is a log whose reads for one filter wait until they are let through.
type gatedReads struct {
	*disk.Log
	filter  string
	entered chan struct{} // one value for each read that waits
	gate    chan struct{}
	reads   atomic.Int64
}

func (g *gatedReads) Read(q store.Query, b *store.Batch) error {
	if g.filter != "" && !q.Retained && q.Select.Match(g.filter) {
		g.reads.Add(1)
		g.entered <- struct{}{}
		<-g.gate
	}
	return g.Log.Read(q, b)
}

// TestClosedStreamsFreeTheirReadTurns opens 40 streams that read the whole history on disk for a filter that
// matches nothing, and closes them while the first of them are reading. The others do not read any more,
// the next listener gets its message, and the hub closes.
func TestClosedStreamsFreeTheirReadTurns(t *testing.T) {
	const gone, messages = 40, 20_000 // at least 5 reads for each stream
	log, err := disk.Open(disk.Options{Dir: t.TempDir(), MaxMemory: 8 << 20, Fsync: disk.Never})
	if err != nil {
		t.Fatal(err)
	}
	for range messages / 1000 {
		var entries []store.Entry
		for range 1000 {
			m := store.Message{Group: "full", Time: time.Now(), Msg: []byte("1")}
			entries = append(entries, m.Entry(nil))
		}
		if _, err := log.Append(t.Context(), entries); err != nil {
			t.Fatal(err)
		}
	}
	gated := &gatedReads{Log: log, filter: "none/at/all", entered: make(chan struct{}, 10_000), gate: make(chan struct{})}
	ended := &endedSessions{ended: make(chan string, 100)}
	o := hub.Defaults()
	o.Observer, o.SessionTimeout = ended, time.Millisecond
	h, err := hub.New(gated, o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(api.New(h, api.Options{Logger: o.Logger}))
	defer srv.Close()
	s := &server{TB: t, addr: srv.Listener.Addr().String()}

	last := s.listen("/v1/groups/quiet")
	var all []*stream
	for range gone {
		all = append(all, s.listen("/v1/groups/none/+/all?since=all"))
	}
	turns := 2 * runtime.GOMAXPROCS(0)
	for range min(turns, gone) {
		<-gated.entered
	}
	next := s.listen("/v1/groups/full?since=all")
	for _, st := range append(all, last) {
		_ = st.Close()
	}
	// One goroutine notices closed connections, in their order. The last one has caught up and does not wait for a turn.
	select {
	case uid := <-ended.ended:
		if uid != last.uid {
			t.Errorf("%s ended before its read did", uid)
		}
	case <-time.After(patience / 4): // it had not caught up yet
	}
	close(gated.gate)

	if _, _, data := parseBlock(next.block()); !strings.Contains(data, `"group":"full"`) {
		t.Errorf("the next listener gets %q", data)
	}
	_ = next.Close()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if n := gated.reads.Load(); n > int64(turns+max(0, gone-turns)/2) {
		t.Errorf("%d reads for %d closed streams, though only %d had a turn", n, gone, turns)
	}
}

// endedSessions is an observer that reports ended sessions.
type endedSessions struct {
	hub.Observer // not called: nothing is published
	ended        chan string
}

func (e *endedSessions) Listens() bool { return false }

func (e *endedSessions) Dropped() uint64 { return 0 }

func (e *endedSessions) Waiting() int64 { return 0 }

func (e *endedSessions) Session(ev session.Event) {
	if ev.Kind == session.Disconnect {
		e.ended <- ev.UID
	}
}
