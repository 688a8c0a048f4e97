package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/internal/sharedtest"
	"github.com/watchbox-go/watchbox/sse"
	"github.com/watchbox-go/watchbox/store"
)

// rig is several hubs that share a log, in a bubble with its own clock.
type rig struct {
	*testing.T
	log     *sharedtest.Cluster
	hubs    []*node
	options []func(*Options) // change the options of the hubs

	mu     sync.Mutex
	events map[string][]string // callbacks of all hubs, by uid
	logged []string            // lines that the hubs have logged
}

// Write implements io.Writer for the loggers of the hubs.
func (r *rig) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logged = append(r.logged, string(line))
	return len(line), nil
}

// node is a hub of a rig.
type node struct {
	*Hub
	rig *rig
	log *sharedtest.Log
	at  int
}

// inRig runs a test with a number of hubs.
func inRig(t *testing.T, hubs int, test func(r *rig), options ...func(*Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, log: sharedtest.New(), options: options, events: map[string][]string{}}
		for i := range hubs {
			r.hubs = append(r.hubs, r.begin(i))
		}
		test(r)
		for _, n := range r.hubs {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func (r *rig) begin(at int) *node {
	r.Helper()
	n := &node{rig: r, log: r.log.Open(), at: at}
	o := Defaults()
	o.Observer = &watcher{rig: r, at: at}
	o.Heartbeat = time.Hour // fewer writes
	o.Logger = slog.New(slog.NewTextHandler(r, nil))
	for _, f := range r.options {
		f(&o)
	}
	var err error
	if n.Hub, err = start(n.log, o, nil); err != nil {
		r.Fatal(err)
	}
	return n
}

// watcher records the callbacks of a hub.
type watcher struct {
	rig *rig
	at  int
}

func (w *watcher) Before(context.Context, *Draft) error { return nil }
func (w *watcher) Listens() bool                        { return false }
func (w *watcher) Messages([]Message) bool              { return true }
func (w *watcher) Dropped() uint64                      { return 0 }
func (w *watcher) Waiting() int64                       { return 0 }

func (w *watcher) Session(e session.Event) {
	text := map[session.Kind]string{
		session.Connect: "connect", session.Reconnect: "reconnect", session.Disconnect: "disconnect",
		session.Join: "join " + e.Filter.String(), session.Leave: "leave " + e.Filter.String(),
	}[e.Kind]
	w.rig.mu.Lock()
	defer w.rig.mu.Unlock()
	w.rig.events[e.UID] = append(w.rig.events[e.UID], fmt.Sprintf("%s at %d", text, w.at))
}

// callbacks returns the callbacks about a session since the last call.
func (r *rig) callbacks(secret string) string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.events[session.UID(secret)]
	delete(r.events, session.UID(secret))
	return strings.Join(list, ", ")
}

// conn is a connection whose client reads everything.
type conn struct {
	mu   sync.Mutex
	got  []byte
	gone func(error)
	over bool

	*Listener // of its stream
}

func (c *conn) TryWrite(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return 0, sse.ErrClosed
	}
	c.got = append(c.got, p...)
	return len(p), nil
}
func (c *conn) Write(p []byte) (int, error) { return c.TryWrite(p) }
func (c *conn) Blocking() bool              { return false }
func (c *conn) Watch(gone func(error))      { c.mu.Lock(); defer c.mu.Unlock(); c.gone = gone }
func (c *conn) Serve()                      {}
func (c *conn) Close() error                { c.mu.Lock(); defer c.mu.Unlock(); c.over = true; return nil }

// text returns what the client has received.
func (c *conn) text() string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.got)
}

// bye returns the reason of the bye event, or "".
func (c *conn) bye() string {
	_, after, _ := strings.Cut(c.text(), "event: bye\ndata: {\"reason\":\"")
	why, _, _ := strings.Cut(after, `"`)
	return why
}

// leave closes the connection from the client's side.
func (c *conn) leave() {
	c.mu.Lock()
	gone := c.gone
	c.mu.Unlock()
	if gone != nil {
		gone(io.EOF)
	}
}

// tryListen opens a stream of the session of a secret, with filters separated by spaces.
func (n *node) tryListen(secret, filters string, change ...func(*Subscription)) (*conn, error) {
	s := &Subscription{Grant: access.Everything, Secret: secret}
	for _, f := range strings.Fields(filters) {
		s.Filters = append(s.Filters, group.Exact(f))
	}
	for _, f := range change {
		f(s)
	}
	l, err := n.Subscribe(n.rig.Context(), s)
	if err != nil {
		return nil, err
	}
	c := &conn{Listener: l}
	l.Run(c)
	return c, nil
}

func (n *node) listen(secret, filters string, change ...func(*Subscription)) *conn {
	n.rig.Helper()
	c, err := n.tryListen(secret, filters, change...)
	if err != nil {
		n.rig.Fatal(err)
	}
	return c
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Error(err)
	}
}

// presence returns the announcements of a session so far, without the uid.
func (r *rig) presence(secret string) string {
	synctest.Wait()
	var list []string
	for _, m := range r.log.Messages() {
		if a, ok := parseAnnouncement(m); ok && a.UID == session.UID(secret) {
			list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s %s", a.Event, a.filter, a.Reason)))
		}
	}
	return strings.Join(list, ", ")
}

type told struct {
	Event, UID, Reason string
	filter             string
}

func parseAnnouncement(m store.Message) (a told, ok bool) {
	if a.filter, ok = strings.CutPrefix(m.Group, presencePrefix); ok {
		ok = json.Unmarshal(m.Msg, &a) == nil
	}
	return a, ok
}

// secrets of sessions
const (
	ann = "the-secret-of-ann"
	bob = "the-secret-of-bob"
)

func (r *rig) wantPresence(secret, want string) {
	r.Helper()
	if got := r.presence(secret); got != want {
		r.Errorf("announced is\n%s, want\n%s", got, want)
	}
}
