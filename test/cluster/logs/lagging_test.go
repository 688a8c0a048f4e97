//go:build !windows

package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// laggard is a dialer. The requests of its hub to JetStream take another way, where it answers some as a server that lags would.
type laggard struct {
	client

	mu     sync.Mutex
	answer func(subject string, request []byte) *nats.Msg // nil, or returns nil: a server answers
}

const (
	realWay  = "$JS.API."
	otherWay = "LAGGING." // as long
)

func newLaggard(t *testing.T, url string) *laggard {
	l := &laggard{client: connect(t, url)}
	sub, err := l.nc.Subscribe(otherWay+">", l.handle)
	must(t, err)
	must(t, sub.SetPendingLimits(-1, -1))
	must(t, l.nc.Flush())
	return l
}

// Dial implements jetstream.Dialer.
func (l *laggard) Dial(network, address string) (net.Conn, error) {
	return rewrite(func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte("PUB "+realWay), []byte("PUB "+otherWay))
	}).Dial(network, address)
}

// lag answers requests from now on.
func (l *laggard) lag(answer func(subject string, request []byte) *nats.Msg) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = answer
}

func (l *laggard) handle(m *nats.Msg) {
	l.mu.Lock()
	defer l.mu.Unlock()
	subject := m.Subject[len(otherWay):]
	if l.answer != nil && m.Reply != "" {
		if a := l.answer(subject, m.Data); a != nil {
			_ = m.RespondMsg(a) // it fails only when the test is over
			return
		}
	}
	_ = l.nc.PublishMsg(&nats.Msg{Subject: realWay + subject, Reply: m.Reply, Header: m.Header, Data: m.Data})
}

// info returns what a server says of a stream where it ends earlier.
func (l *laggard) info(stream string, end store.Seq) *nats.Msg {
	m, err := l.nc.Request(realWay+"STREAM.INFO."+stream, nil, patience)
	if err != nil {
		return nil // the test is over
	}
	data := regexp.MustCompile(`"last_seq":\s*\d+`).ReplaceAll(m.Data, fmt.Appendf(nil, `"last_seq":%d`, end))
	return &nats.Msg{Data: data}
}

// patient are times for a hub whose requests take another way: all requests are answered on a slow machine, too, and what is evicted
// stays.
var patient = jetstream.Times{
	Patience: patience, Beat: patience, Sign: quick.Sign, Silent: quick.Silent, Janitor: quick.Janitor, Grace: time.Hour,
}

// Answers of servers that do not have a message: to a direct get, and to a request to the leader.
var (
	noneDirect = &nats.Msg{Header: nats.Header{"Status": {"404"}}}
	noneLeader = &nats.Msg{Data: []byte(`{"error":{"code":404,"err_code":10037,"description":"no message found"}}`)}
)

// get is a request for messages.
type get struct {
	Seq  store.Seq `json:"seq"`
	Next string    `json:"next_by_subj"`
	Last string    `json:"last_by_subj"`
}

func parseGet(request []byte) (g get) {
	_ = json.Unmarshal(request, &g) // others are something else
	return g
}

// once returns true when it is called first.
func once() func() bool {
	done := false
	return func() bool {
		defer func() { done = true }()
		return !done
	}
}

// TestAHubThatStartsDoesNotTakeALateLeaderForAnOlderBackup has a leader that does not have the last messages yet when it is
// asked first.
func TestAHubThatStartsDoesNotTakeALateLeaderForAnOlderBackup(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream()}
	a := open(t, o)
	var last store.Seq
	for range 10 {
		last = add(t, a, text("x", "x"))
	}
	before, _ := end(a)
	must(t, a.Close())

	l, first := newLaggard(t, url), once()
	l.lag(func(subject string, request []byte) *nats.Msg {
		if subject != "STREAM.INFO."+o.Stream || !first() {
			return nil
		}
		return l.info(o.Stream, last-5)
	})
	o.Dialer = l
	b := open(t, o)
	l.lag(nil)
	if now, _ := end(b); now != before || first() {
		t.Errorf("the epoch was %s and is %s", before, now)
	}
	if h := read(t, b, "x", 0); h.n != 10 || h.gap > 0 {
		t.Errorf("of 10 messages: %v", h)
	}
}

// TestNoReaderSkipsWhatTwoServersDoNotHaveYet reads messages that are not in memory, while neither the server that answers nor the
// leader has them. The leader has them before it says where the stream ends, or later.
func TestNoReaderSkipsWhatTwoServersDoNotHaveYet(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	l := newLaggard(t, url)
	o := jetstream.Options{URL: url, Stream: newStream(), MaxMemory: 1 << 20, Dialer: l, Times: patient}
	o.Times.Janitor = patience // nobody else asks where the stream ends
	a := open(t, o)
	filler := strings.Repeat("x", 1000)
	const rounds, each = 40, 100
	for range rounds {
		var list []store.Entry
		for range each {
			list = append(list, text("x", filler))
		}
		add(t, a, list...)
	}
	for _, soon := range []bool{false, true} {
		var after store.Seq // what the servers have; 0: everything
		windows := 0
		l.lag(func(subject string, request []byte) *nats.Msg {
			g := parseGet(request)
			switch {
			case subject == "DIRECT.GET."+o.Stream && g.Next == "":
				if windows++; windows != 2 {
					after = 0
					return nil
				}
				after = g.Seq - 1
				return noneDirect
			case after == 0:
				return nil
			case subject == "STREAM.MSG.GET."+o.Stream && g.Seq > after:
				return noneLeader
			case subject == "STREAM.INFO."+o.Stream && soon:
				after = 0
			case subject == "STREAM.INFO."+o.Stream:
				return l.info(o.Stream, after)
			}
			return nil
		})
		h := read(t, a, "x", 0)
		l.lag(nil)
		if windows < 2 {
			t.Errorf("the stream was read %d times", windows)
		}
		if h.n != rounds*each || h.gap > 0 {
			t.Errorf("of %d messages, if the leader has them soon: %v: %v", rounds*each, soon, h)
		}
	}
}

// TestAGroupIsNotCountedAtAServerThatLags purges some of a group's messages that are not in memory, so that the others are counted,
// at a server that does not have them yet.
func TestAGroupIsNotCountedAtAServerThatLags(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	l := newLaggard(t, url)
	o := jetstream.Options{URL: url, Stream: newStream(), MaxMemory: 1 << 20, Dialer: l, Times: patient}
	a := open(t, o)
	filler := strings.Repeat("x", 1000)
	const rounds, each = 40, 100
	var half store.Seq
	for i := range rounds {
		var list []store.Entry
		for range each {
			list = append(list, text("x", filler))
		}
		if first := add(t, a, list...); i == rounds/2 {
			half = first
		}
	}
	subject := "wb." + o.Stream + ".m.x"
	counted, lagging := make(chan struct{}), once()
	l.lag(func(request string, body []byte) *nats.Msg {
		switch {
		case request != "DIRECT.GET."+o.Stream || parseGet(body).Next != subject:
			return nil
		case lagging():
			return noneDirect
		}
		select {
		case <-counted:
		default:
			close(counted)
		}
		return nil
	})
	s, err := connect(t, url).Stream(t.Context(), o.Stream)
	must(t, err)
	must(t, s.Purge(t.Context(), js.WithPurgeSubject(subject), js.WithPurgeSequence(uint64(half))))
	eventually(t, "the messages that are left are counted", func() bool { return lasting(a, "x") == rounds/2*each })
	<-counted
}

// TestANoteIsNotForgottenBecauseTheLeaderDoesNotHaveItYet writes two notes at once. Somebody has purged one of them before, and the
// leader has not stored the other one yet. It stores that before it says where the stream ends, or later.
func TestANoteIsNotForgottenBecauseTheLeaderDoesNotHaveItYet(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	l := newLaggard(t, url)
	for _, soon := range []bool{false, true} {
		o := jetstream.Options{URL: url, Stream: newStream(), Dialer: l, Times: patient}
		o.Times.Janitor = patience // nobody else asks where the stream ends
		a := open(t, o)
		note := func(key, value string) store.Note { return store.Note{Key: key, Value: []byte(value)} }
		for _, key := range []string{"purged", "kept"} {
			_, err := a.AppendNoted(t.Context(), nil, note(key, "1"))
			must(t, err)
		}
		var mu sync.Mutex
		var removed []string
		must(t, a.Follow(func(n store.Note) {
			mu.Lock()
			defer mu.Unlock()
			if n.Value == nil {
				removed = append(removed, n.Key)
			}
		}))
		s, err := l.Stream(t.Context(), o.Stream)
		must(t, err)
		must(t, s.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".n.purged")))
		lagging := true // until it was asked for the end
		l.lag(func(subject string, request []byte) *nats.Msg {
			switch {
			case subject == "STREAM.MSG.GET."+o.Stream && lagging && parseGet(request).Last == "wb."+o.Stream+".n.kept":
				return noneLeader
			case subject == "STREAM.INFO."+o.Stream && lagging:
				if lagging = false; !soon {
					return l.info(o.Stream, 1)
				}
			}
			return nil
		})
		_, err = a.AppendNoted(t.Context(), nil, note("kept", "2"), note("purged", "2"))
		must(t, err)
		l.lag(nil)
		mu.Lock()
		if len(removed) != 1 || removed[0] != "purged" || lagging {
			t.Errorf("if the leader has it soon: %v: these notes were forgotten: %q", soon, removed)
		}
		mu.Unlock()
	}
}

// TestEachHubThatStartsTellsOfAPurge purges the stream while no hub is running, and starts a hub that stops in the middle.
func TestEachHubThatStartsTellsOfAPurge(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	o := jetstream.Options{URL: url, Stream: newStream()}
	a := open(t, o)
	for range 10 {
		add(t, a, text("x", "x"))
	}
	_, last := end(a)
	must(t, a.Close())
	s, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	must(t, s.Purge(t.Context()))
	bucket, err := admin.KeyValue(t.Context(), o.Stream+"_hubs")
	must(t, err)
	must(t, bucket.Purge(t.Context(), "counts")) // as if the hub had not counted the last messages

	said := make(chan struct{})
	var once sync.Once
	withheld := rewrite(func(b []byte) []byte { // what the hub says of evicted messages does not arrive
		if bytes.Contains(b, []byte(".n.evict.")) {
			once.Do(func() { close(said) })
		}
		return bytes.ReplaceAll(b, []byte(".n.evict."), []byte(".h.evict.")) // a subject that nobody stores
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		c := o
		c.Times, c.Times.Patience, c.Replicas, c.Dialer = quick, patience, 1, withheld
		if l, err := jetstream.Open(ctx, c); err == nil {
			t.Error("the hub has started")
			must(t, l.Close())
		}
	}()
	<-said
	b := open(t, o)
	if h := read(t, b, "x", 0); h.gap < last {
		t.Errorf("messages up to %d are lost: %v", last, h)
	}
	cancel()
	<-stopped
}
