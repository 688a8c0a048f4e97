package watchbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/session"
)

// callbacks calls the callbacks of the embedding program. They run outside the hub: those of one session
// run one after another, those of different sessions concurrently. A slow callback delays only its own session. Messages without a session are ordered by group, unless their requests were concurrent.
type callbacks struct {
	hub    *Hub
	logger *slog.Logger

	mu         sync.Mutex // guards the fields below
	connect    []func(Session)
	join       []func(Session, string)
	leave      []func(Session, string)
	message    []func(Message)
	reconnect  []func(Session)
	disconnect []func(Session, Reason)
	before     []func(context.Context, *Message) error

	mistaken error // nil callbacks that were registered

	running map[uint64]bool     // numbers of the goroutines that run callbacks
	waiting map[string][]queued // by session; the first of each is running
	count   int
	bytes   int // of the messages whose calls wait or run
	dropped uint64
	closed  bool
	idle    *sync.Cond // count is 0
}

// Bounds of the calls that wait or run. When a bound is reached, further calls are dropped and counted. Below the
// bound, a batch is queued as a whole. The bounds for one session are lower than those for all messages, which are
// lower than those for all events.
const (
	maxOwnMessages = 1_000 // with one session's other events
	maxMessages    = 10_000
	maxEvents      = 100_000 // with the messages

	maxOwnBytes = 8 << 20  // of one session's messages
	maxBytes    = 32 << 20 // of all messages
)

// queued is a waiting call and the size of its message.
type queued struct {
	call  func()
	bytes int
}

func newCallbacks(h *Hub, l *slog.Logger) *callbacks {
	c := &callbacks{hub: h, logger: l, waiting: map[string][]queued{}, running: map[uint64]bool{}}
	c.idle = sync.NewCond(&c.mu)
	return c
}

// OnConnect calls f when a session's first stream opens.
func (h *Hub) OnConnect(f func(Session)) { on(h.calls, "OnConnect", &h.calls.connect, f, f == nil) }

// OnJoin calls f when a session starts to listen to a filter.
func (h *Hub) OnJoin(f func(s Session, filter string)) {
	on(h.calls, "OnJoin", &h.calls.join, f, f == nil)
}

// OnLeave calls f when a session stops listening to a filter and stays connected.
func (h *Hub) OnLeave(f func(s Session, filter string)) {
	on(h.calls, "OnLeave", &h.calls.leave, f, f == nil)
}

// OnMessage calls f with each message that a client sends to a group, or to the program alone (then
// Message.Group is empty). It is not called with messages that the program publishes itself.
func (h *Hub) OnMessage(f func(Message)) { on(h.calls, "OnMessage", &h.calls.message, f, f == nil) }

// OnReconnect calls f when a disconnected session has reconnected in time.
func (h *Hub) OnReconnect(f func(Session)) {
	on(h.calls, "OnReconnect", &h.calls.reconnect, f, f == nil)
}

// OnDisconnect calls f once when a session is gone: it did not reconnect in time, or it was ended.
func (h *Hub) OnDisconnect(f func(Session, Reason)) {
	on(h.calls, "OnDisconnect", &h.calls.disconnect, f, f == nil)
}

// BeforePublish calls f with each message that a client sends, before it is appended, on the goroutine
// of the request and with its context. An error refuses the message, and the client gets the text of
// the error. A panic is logged, and the client gets the final error program-failed. f may change the message's
// Group, Event and Meta, and with Set its content. For a message to the program alone,
// whose Group is empty, a new Group is ignored. A direct message with a new Group becomes a message to that group.
func (h *Hub) BeforePublish(f func(context.Context, *Message) error) {
	on(h.calls, "BeforePublish", &h.calls.before, f, f == nil)
}

// on adds a callback to its list. A nil callback is an error of the program: it is logged, and Run
// returns the error.
func on[F any](c *callbacks, name string, list *[]F, f F, isNil bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if isNil {
		err := fmt.Errorf("watchbox: %s was given a nil function", name)
		c.mistaken = errors.Join(c.mistaken, err)
		c.logger.Error(err.Error())
		return
	}
	*list = append(slices.Clip(*list), f) // running calls keep the old list
}

func get[F any](c *callbacks, list *[]F) []F {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *list
}

// Before implements hub.Observer.
func (c *callbacks) Before(ctx context.Context, d *hub.Draft) error {
	hooks := get(c, &c.before)
	if len(hooks) == 0 {
		return nil
	}
	m := Message{
		Group: d.Group, UID: d.UID, Subject: d.Subject, Event: d.Event, Meta: slices.Clone(d.Meta), Time: time.Now(), Data: bytes.Clone(d.Data),
		json: d.Kind == hub.JSON, hub: c.hub,
	}
	defer c.enter()()
	for _, f := range hooks {
		if err := c.runHook(ctx, f, &m); err != nil {
			return err
		}
	}
	d.Group, d.Event, d.Meta, d.Data, d.Kind = m.Group, m.Event, m.Meta, m.Data, hub.Bytes
	if m.json {
		d.Kind = hub.JSON
	}
	return nil
}

// runHook calls a hook with a message. A panic is a failure of the program, not a refusal.
func (c *callbacks) runHook(ctx context.Context, f func(context.Context, *Message) error, m *Message) (err error) {
	defer func() {
		if r := recover(); r != nil {
			c.logPanic("BeforePublish panicked", r)
			err = hub.ErrProgram
		}
	}()
	if err := f(ctx, m); err != nil {
		if over := ctx.Err(); over != nil && errors.Is(err, over) {
			return over // the request was given up: this is no refusal
		}
		_ = err.Error() // panics here, not later, if the error is a nil pointer in an interface
		return &hub.Refusal{Err: err}
	}
	return nil
}

func (c *callbacks) logPanic(text string, panicked any) {
	c.logger.Error(text, "panic", fmt.Sprint(panicked), "stack", string(debug.Stack()))
}

// Listens implements hub.Observer.
func (c *callbacks) Listens() bool { return len(get(c, &c.message)) > 0 }

// Messages implements hub.Observer.
func (c *callbacks) Messages(list []hub.Message) bool {
	key := list[0].UID
	if key == "" {
		key = "group " + list[0].Group
	}
	calls := make([]func(func(Message)), len(list))
	for i, m := range list {
		message := Message{
			ID: m.ID, Group: m.Group, UID: m.UID, Subject: m.Subject, Event: m.Event, Meta: m.Meta, Time: m.Time, Data: m.Data,
			json: m.Kind == hub.JSON, hub: c.hub,
		}
		calls[i] = func(f func(Message)) { f(message) }
	}
	bytes := make([]int, len(list))
	for i := range list {
		bytes[i] = list[i].Size()
	}
	return enqueue(c, &c.message, key, maxMessages, bytes, calls...)
}

// Session implements hub.Observer.
func (c *callbacks) Session(e session.Event) {
	s := Session{e.UID, e.Subject}
	switch e.Kind {
	case session.Connect:
		enqueue(c, &c.connect, e.UID, maxEvents, nil, func(f func(Session)) { f(s) })
	case session.Reconnect:
		enqueue(c, &c.reconnect, e.UID, maxEvents, nil, func(f func(Session)) { f(s) })
	case session.Disconnect:
		enqueue(c, &c.disconnect, e.UID, maxEvents, nil, func(f func(Session, Reason)) { f(s, e.Reason) })
	case session.Join:
		enqueue(c, &c.join, e.UID, maxEvents, nil, func(f func(Session, string)) { f(s, e.Filter.String()) })
	case session.Leave:
		enqueue(c, &c.leave, e.UID, maxEvents, nil, func(f func(Session, string)) { f(s, e.Filter.String()) })
	}
}

// enqueue queues each of the calls for each callback of a list, unless limit calls wait already. It does nothing if
// there is no callback.
func enqueue[F any](c *callbacks, list *[]F, key string, limit int, bytes []int, calls ...func(F)) bool {
	callbacks := get(c, list)
	if len(callbacks) == 0 {
		return true
	}
	posts := make([]queued, len(calls))
	for i, call := range calls {
		if bytes != nil {
			posts[i].bytes = bytes[i]
		}
		posts[i].call = func() {
			for _, f := range callbacks {
				c.call(func() { call(f) })
			}
		}
	}
	ok, dropped := c.post(key, limit, posts)
	if before := dropped - uint64(len(calls)); dropped > 0 && (before == 0 || dropped/1000 > before/1000) {
		c.logger.Error("callbacks are too slow: events are dropped", "dropped", dropped, "of", key)
	}
	return ok
}

// post queues a list of calls behind those with the same key. If a bound is reached, it returns the number
// of calls dropped since the start.
func (c *callbacks) post(key string, limit int, list []queued) (ok bool, dropped uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	queue := c.waiting[key]
	switch {
	case c.closed:
		return false, 0
	case c.count >= limit, limit == maxMessages && (len(queue) >= maxOwnMessages || c.bytes >= maxBytes || c.ownBytes(queue) >= maxOwnBytes):
		c.dropped += uint64(len(list))
		return false, c.dropped
	}
	c.count += len(list)
	for _, q := range list {
		c.bytes += q.bytes
	}
	c.waiting[key] = append(queue, list...)
	if len(queue) == 0 {
		go c.run(key, list[0].call)
	}
	return true, 0
}

// ownBytes returns the number of bytes of one session's messages. It adds them up only if they can reach the
// bound.
func (c *callbacks) ownBytes(queue []queued) (n int) {
	if c.bytes < maxOwnBytes {
		return 0
	}
	for _, q := range queue {
		n += q.bytes
	}
	return n
}

// run calls f, and then the calls that wait with the same key.
func (c *callbacks) run(key string, f func()) {
	defer func() { // even if f ends its goroutine, as t.FailNow does
		if f != nil {
			if f = c.next(key); f != nil {
				go c.run(key, f)
			}
		}
	}()
	defer c.enter()()
	for ; f != nil; f = c.next(key) {
		f()
	}
}

// enter records that this goroutine runs callbacks, until leave is called.
func (c *callbacks) enter() (leave func()) {
	me := goroutine()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[me] { // a callback that calls the hub's ServeHTTP itself
		return func() {}
	}
	c.running[me] = true
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.running, me)
	}
}

// isCallback reports whether a callback runs on this goroutine.
func (c *callbacks) isCallback() bool {
	me := goroutine()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running[me]
}

// mistakes returns an error if nil callbacks were registered.
func (c *callbacks) mistakes() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mistaken
}

// next removes the call that has run, and returns the next one with the same key, or nil.
func (c *callbacks) next(key string) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count--; c.count == 0 {
		c.idle.Broadcast()
	}
	queue := c.waiting[key]
	c.bytes -= queue[0].bytes
	queue[0] = queued{}
	if queue = queue[1:]; len(queue) == 0 {
		delete(c.waiting, key)
		return nil
	}
	c.waiting[key] = queue
	return queue[0].call
}

// call calls f, and logs a panic.
func (c *callbacks) call(f func()) {
	defer func() {
		if r := recover(); r != nil {
			c.logPanic("a callback panicked", r)
		}
	}()
	f()
}

// Dropped implements hub.Observer.
func (c *callbacks) Dropped() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}

// Waiting implements hub.Observer.
func (c *callbacks) Waiting() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(c.bytes)
}

// close stops taking events, and waits until no callback waits or runs, but no longer than timeout.
func (c *callbacks) close(timeout time.Duration) {
	timedOut := false
	timer := time.AfterFunc(timeout, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		timedOut = true
		c.idle.Broadcast()
	})
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for c.count > 0 && !timedOut {
		c.idle.Wait()
	}
	if c.count > 0 {
		c.logger.Error("callbacks still run after the hub was closed", "waiting", c.count)
	}
}
