//go:build !windows

package cluster

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// The tests of this file hold what store/jetstream assumes about nats-server and is not in its documentation. They fail if
// a new version behaves differently.

const (
	wrongLastSequence = 10071
	incompleteBatch   = 10176
	batchTooLarge     = 10199
	duplicateInBatch  = 10201
	tooManyBatches    = 10210
)

// lab is a stream with the settings of store/jetstream.
type lab struct {
	*testing.T
	nc     *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
}

func newLab(t *testing.T, url string, replicas int) *lab {
	t.Helper()
	nc, err := nats.Connect(url, nats.Name("the lab"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	l := &lab{T: t, nc: nc}
	if l.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	l.create(replicas)
	return l
}

func (l *lab) create(replicas int) {
	l.Helper()
	var err error
	l.stream, err = l.js.CreateStream(l.Context(), jetstream.StreamConfig{
		Name: "S", Subjects: []string{"s.>"}, Replicas: replicas, AllowDirect: true, AllowMsgTTL: true, AllowAtomicPublish: true,
		AllowRollup: true, DenyDelete: true, Duplicates: 2 * time.Minute,
	})
	if err != nil {
		l.Fatal(err)
	}
}

func (l *lab) state() jetstream.StreamState {
	l.Helper()
	info, err := l.stream.Info(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	return info.State
}

// message is a message of a batch: the subject and then pairs of a header and its value.
type message []string

func guarded(subject string, seq int) message {
	return message{subject, "Nats-Expected-Last-Subject-Sequence", strconv.Itoa(seq), "Nats-Rollup", "sub"}
}

type ack struct {
	Seq   uint64
	Count int
	Error struct {
		Code int `json:"err_code"`
	}
}

var batches int

// batch publishes an atomic batch without waiting before its end.
func (l *lab) batch(messages ...message) ack {
	l.Helper()
	batches++
	for i, m := range messages {
		msg := nats.NewMsg("s." + m[0])
		for k := 1; k < len(m); k += 2 {
			msg.Header.Set(m[k], m[k+1])
		}
		msg.Header.Set("Nats-Batch-Id", strconv.Itoa(batches))
		msg.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		if i == len(messages)-1 {
			msg.Header.Set("Nats-Batch-Commit", "1")
			return l.request(msg)
		}
		if err := l.nc.PublishMsg(msg); err != nil {
			l.Fatal(err)
		}
	}
	return ack{}
}

func (l *lab) request(msg *nats.Msg) (a ack) {
	l.Helper()
	r, err := l.nc.RequestMsg(msg, time.Minute)
	if err != nil {
		l.Fatal(err)
	}
	if len(r.Data) > 0 {
		if err := json.Unmarshal(r.Data, &a); err != nil {
			l.Fatalf("%v: %s", err, r.Data)
		}
	}
	return a
}

func (l *lab) stored(a ack, last uint64) {
	l.Helper()
	if a.Seq != last || a.Error.Code != 0 {
		l.Fatalf("the answer is %+v instead of seq %d", a, last)
	}
}

func (l *lab) refused(a ack, code int) {
	l.Helper()
	if a.Error.Code != code {
		l.Errorf("the answer is %+v instead of error %d", a, code)
	}
}

func TestABatchIsStoredIfAllItsGuardsHold(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d servers", n), func(t *testing.T) {
			l := newLab(t, servers.ForTest(t, n).URL(), n)
			l.stored(l.batch(message{"m"}, guarded("a", 0), guarded("b", 0)), 3)
			l.stored(l.batch(message{"m"}, guarded("a", 2), guarded("b", 3)), 6)
			if s := l.state(); s.Msgs != 4 {
				t.Errorf("the new versions did not replace the old ones: %+v", s)
			}
			l.refused(l.batch(message{"m"}, guarded("a", 5), guarded("b", 3), message{"m"}), wrongLastSequence)
			if s := l.state(); s.Msgs != 4 || s.LastSeq != 6 {
				t.Errorf("a refused batch changed the stream: %+v", s)
			}
			l.stored(l.batch(message{"x", "Nats-Msg-Id", "1"}, message{"x", "Nats-Msg-Id", "2"}), 8)
			l.refused(l.batch(message{"y"}, message{"x", "Nats-Msg-Id", "2"}), duplicateInBatch)
			p, err := l.js.Publish(t.Context(), "s.z", nil, jetstream.WithMsgID("1"))
			if err != nil || !p.Duplicate || p.Sequence != 7 {
				t.Errorf("a repeat of a message of a batch: %+v, %v", p, err)
			}
		})
	}
}

func TestLimitsOfBatches(t *testing.T) {
	l := newLab(t, servers.ForTest(t, 1).URL(), 1)
	large := make([]message, 1001)
	for i := range large {
		large[i] = message{"m"}
	}
	l.stored(l.batch(large[:1000]...), 1000)
	l.refused(l.batch(large...), batchTooLarge)
	for i := range 50 {
		begun := nats.NewMsg("s.m")
		begun.Header.Set("Nats-Batch-Id", fmt.Sprint("begun", i))
		begun.Header.Set("Nats-Batch-Sequence", "1")
		l.refused(l.request(begun), 0)
	}
	l.refused(l.batch(message{"m"}), tooManyBatches)
	l.refused(l.batch(message{"m"}, message{"m"}), incompleteBatch)
	if s := l.state(); s.LastSeq != 1000 {
		t.Errorf("the stream has %d messages", s.LastSeq)
	}
}

func TestAPurgeRemovesWhatIsBelowItsSequence(t *testing.T) {
	l := newLab(t, servers.ForTest(t, 1).URL(), 1)
	l.stored(l.batch(message{"a"}, message{"a"}, message{"b"}, message{"a"}), 4)
	audit, err := l.nc.SubscribeSync("$JS.EVENT.ADVISORY.API")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.stream.Purge(t.Context(), jetstream.WithPurgeSubject("s.a"), jetstream.WithPurgeSequence(4)); err != nil {
		t.Fatal(err)
	}
	if s := l.state(); s.FirstSeq != 3 || s.LastSeq != 4 {
		t.Errorf("after the purge: %+v", s)
	}
	l.audited(audit)
	if err := l.stream.Purge(t.Context(), jetstream.WithPurgeSubject("s.a")); err != nil {
		t.Fatal(err)
	}
	l.refused(l.batch(guarded("a", 4)), wrongLastSequence)
	l.stored(l.batch(guarded("a", 0)), 5) // a purge removes the version, too
}

// audited waits for the announcement of a purge and fails if it does not name the client and its request.
func (l *lab) audited(audit *nats.Subscription) {
	l.Helper()
	for {
		m, err := audit.NextMsg(time.Minute)
		if err != nil {
			l.Fatal(err)
		}
		var a struct {
			Subject, Request string
			Client           struct{ Name string }
		}
		if err := json.Unmarshal(m.Data, &a); err != nil {
			l.Fatal(err)
		}
		if a.Subject == "$JS.API.STREAM.PURGE.S" {
			if a.Client.Name != "the lab" || a.Request != `{"seq":4,"filter":"s.a"}` {
				l.Errorf("the announcement of a purge: %s", m.Data)
			}
			return
		}
	}
}

func TestBatchedReadsSkipHoles(t *testing.T) {
	l := newLab(t, servers.ForTest(t, 1).URL(), 1)
	l.stored(l.batch(message{"a"}, guarded("n", 0), message{"a"}, message{"a"}), 4)
	l.stored(l.batch(guarded("n", 2)), 5)
	for request, want := range map[string]string{
		`{"seq":1,"batch":2}`:               "1 after 0, 3 after 1, 204 after 3, 2 left",
		`{"seq":2,"batch":9}`:               "3 after 0, 4 after 3, 5 after 4, 204 after 5, 0 left",
		`{"seq":6,"batch":9}`:               "404 after , left",
		`{"seq":3,"batch":9,"max_bytes":4}`: "3 after 0, 204 after 3, 2 left",
	} {
		if got := l.read(request); got != want {
			t.Errorf("%s: %s instead of %s", request, got, want)
		}
	}
}

// read describes the answers to a batched direct get: each with the sequence of the one before.
func (l *lab) read(request string) (all string) {
	l.Helper()
	inbox := l.nc.NewInbox()
	sub, err := l.nc.SubscribeSync(inbox)
	if err != nil {
		l.Fatal(err)
	}
	if err := l.nc.PublishRequest("$JS.API.DIRECT.GET.S", inbox, []byte(request)); err != nil {
		l.Fatal(err)
	}
	for {
		m, err := sub.NextMsg(time.Minute)
		if err != nil {
			l.Fatal(err)
		}
		before := m.Header.Get("Nats-Last-Sequence")
		if status := m.Header.Get("Status"); status != "" {
			left := m.Header.Get("Nats-Num-Pending")
			if left != "" {
				left += " "
			}
			return all + fmt.Sprintf("%s after %s, %sleft", status, before, left)
		}
		all += fmt.Sprintf("%s after %s, ", m.Header.Get("Nats-Sequence"), before)
	}
}

// TestAnOrderedConsumerContinuesInANewStream is why store/jetstream compares when the stream was created.
func TestAnOrderedConsumerContinuesInANewStream(t *testing.T) {
	l := newLab(t, servers.ForTest(t, 1).URL(), 1)
	l.stored(l.batch(message{"old"}, message{"old"}), 2)
	created := l.stream.CachedInfo().Created
	consumer, err := l.js.OrderedConsumer(t.Context(), "S", jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	next := func() string {
		m, err := messages.Next(jetstream.NextMaxWait(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		return m.Subject()
	}
	if a, b := next(), next(); a != "s.old" || b != "s.old" {
		t.Fatal(a, b)
	}
	if err := l.js.DeleteStream(t.Context(), "S"); err != nil {
		t.Fatal(err)
	}
	l.create(1)
	l.stored(l.batch(message{"missed"}, message{"missed"}, message{"new"}), 3)
	if subject := next(); subject != "s.new" {
		t.Errorf("the consumer delivers %s", subject)
	}
	if !l.stream.CachedInfo().Created.After(created) {
		t.Error("the new stream was not created later")
	}
}
