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

// callbacks is what the hosting program wants to hear. They run outside the hub: those of one
// session one after the other, those of different sessions at once, so that a slow one delays
// only its own session. What has no session comes by group, in order where requests were not at once.
type callbacks struct {
	hub    *Hub
	logger *slog.Logger

	mu         sync.Mutex // guards what follows
	connect    []func(Session)
	join       []func(Session, string)
	leave      []func(Session, string)
	message    []func(Message)
	reconnect  []func(Session)
	disconnect []func(Session, Reason)
	before     []func(context.Context, *Message) error

	wrong error // how a callback was registered

	running map[uint64]bool     // goroutines, by their number, that call callbacks
	waiting map[string][]queued // by session: the first is running
	count   int
	bytes   int // of the messages that wait or run
	dropped uint64
	closed  bool
	idle    *sync.Cond // count is 0
}

// Bounds of how much waits or runs. What comes when a bound is reached is dropped, and counted; a
// batch that comes before that is taken whole. Messages leave room for others: one session's for
// those of others, all for who comes and goes.
const (
	maxOwnMessages = 1_000 // with one session's other events
	maxMessages    = 10_000
	maxEvents      = 100_000 // with the messages

	maxOwnBytes = 8 << 20  // of one session's messages
	maxBytes    = 32 << 20 // of all messages
)

// queued is a call that waits, and the size of its message.
type queued struct {
	call  func()
	bytes int
}

func newCallbacks(h *Hub, l *slog.Logger) *callbacks {
	c := &callbacks{hub: h, logger: l, waiting: map[string][]queued{}, running: map[uint64]bool{}}
	c.idle = sync.NewCond(&c.mu)
	return c
}

// OnConnect has f called when a session's first stream opens.
func (h *Hub) OnConnect(f func(Session)) { on(h.calls, "OnConnect", &h.calls.connect, f, f == nil) }

// OnJoin has f called when a session begins to listen to a filter.
func (h *Hub) OnJoin(f func(s Session, filter string)) {
	on(h.calls, "OnJoin", &h.calls.join, f, f == nil)
}

// OnLeave has f called when a session no longer listens to a filter, though it is still here.
func (h *Hub) OnLeave(f func(s Session, filter string)) {
	on(h.calls, "OnLeave", &h.calls.leave, f, f == nil)
}

// OnMessage has f called with what clients send to groups, and to the program alone: then
// Message.Group is empty. What the program publishes itself is not among it.
func (h *Hub) OnMessage(f func(Message)) { on(h.calls, "OnMessage", &h.calls.message, f, f == nil) }

// OnReconnect has f called when a session that was lost is back in time.
func (h *Hub) OnReconnect(f func(Session)) {
	on(h.calls, "OnReconnect", &h.calls.reconnect, f, f == nil)
}

// OnDisconnect has f called once when a session is gone: it was lost and did not come back in
// time, or was ended.
func (h *Hub) OnDisconnect(f func(Session, Reason)) {
	on(h.calls, "OnDisconnect", &h.calls.disconnect, f, f == nil)
}

// BeforePublish has f called with each message that a client wants to send, before it is
// appended, on the request's own goroutine and with its context. An error refuses the message, and
// its text is what the client is told. If f panics, the client gets an error that is final, and the
// log the panic. f may change the message's Group, Event and, by Set, what is sent.
func (h *Hub) BeforePublish(f func(context.Context, *Message) error) {
	on(h.calls, "BeforePublish", &h.calls.before, f, f == nil)
}

// on adds a callback to its list. One that is nil is a mistake of the program, of which the log and
// Run tell.
func on[F any](c *callbacks, name string, list *[]F, f F, isNil bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if isNil {
		err := fmt.Errorf("watchbox: %s was given a nil function", name)
		c.wrong = errors.Join(c.wrong, err)
		c.logger.Error(err.Error())
		return
	}
	*list = append(slices.Clip(*list), f) // those that run have the old one
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
		Group: d.Group, UID: d.UID, Event: d.Event, Time: time.Now(), Data: bytes.Clone(d.Data),
		json: d.Kind == hub.JSON, hub: c.hub,
	}
	defer c.enter()()
	for _, f := range hooks {
		if err := c.ask(ctx, f, &m); err != nil {
			return err
		}
	}
	d.Group, d.Event, d.Data, d.Kind = m.Group, m.Event, m.Data, hub.Bytes
	if m.json {
		d.Kind = hub.JSON
	}
	return nil
}

// ask has a hook look at a message. A panic is the program's failure, and no refusal.
func (c *callbacks) ask(ctx context.Context, f func(context.Context, *Message) error, m *Message) (err error) {
	defer func() {
		if r := recover(); r != nil {
			c.logPanic("BeforePublish panicked", r)
			err = hub.ErrProgram
		}
	}()
	if err := f(ctx, m); err != nil {
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
		heard := Message{
			ID: m.ID, Group: m.Group, UID: m.UID, Event: m.Event, Time: m.Time, Data: m.Data,
			json: m.Kind == hub.JSON, hub: c.hub,
		}
		calls[i] = func(f func(Message)) { f(heard) }
	}
	bytes := make([]int, len(list))
	for i := range list {
		bytes[i] = len(list[i].Data)
	}
	return tell(c, &c.message, key, maxMessages, bytes, calls...)
}

// Session implements hub.Observer.
func (c *callbacks) Session(e session.Event) {
	s := Session{e.UID}
	switch e.Kind {
	case session.Connect:
		tell(c, &c.connect, e.UID, maxEvents, nil, func(f func(Session)) { f(s) })
	case session.Reconnect:
		tell(c, &c.reconnect, e.UID, maxEvents, nil, func(f func(Session)) { f(s) })
	case session.Disconnect:
		tell(c, &c.disconnect, e.UID, maxEvents, nil, func(f func(Session, Reason)) { f(s, e.Reason) })
	case session.Join:
		tell(c, &c.join, e.UID, maxEvents, nil, func(f func(Session, string)) { f(s, e.Filter.String()) })
	case session.Leave:
		tell(c, &c.leave, e.UID, maxEvents, nil, func(f func(Session, string)) { f(s, e.Filter.String()) })
	}
}

// tell has each callback of a list called for each of the calls, unless most wait already. Where nobody wants to hear, it
// costs nothing.
func tell[F any](c *callbacks, list *[]F, key string, most int, bytes []int, calls ...func(F)) bool {
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
	ok, dropped := c.post(key, most, posts)
	if before := dropped - uint64(len(calls)); dropped > 0 && (before == 0 || dropped/1000 > before/1000) {
		c.logger.Error("callbacks are too slow: events are dropped", "dropped", dropped, "of", key)
	}
	return ok
}

// post has a list called, in order, after what waits under the same key. If it cannot, it returns
// how many calls that was so of.
func (c *callbacks) post(key string, most int, list []queued) (ok bool, dropped uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	queue := c.waiting[key]
	switch {
	case c.closed:
		return false, 0
	case c.count >= most, most == maxMessages && (len(queue) >= maxOwnMessages || c.bytes >= maxBytes || c.ownBytes(queue) >= maxOwnBytes):
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

// ownBytes returns how many bytes the messages of one session take. It adds them up only where that
// can matter.
func (c *callbacks) ownBytes(queue []queued) (n int) {
	if c.bytes < maxOwnBytes {
		return 0
	}
	for _, q := range queue {
		n += q.bytes
	}
	return n
}

// run calls f, and what waits after it under a key.
func (c *callbacks) run(key string, f func()) {
	defer func() { // even if f ends its goroutine, as a test does that fails
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

// enter notes that this goroutine calls callbacks, until leave is called.
func (c *callbacks) enter() (leave func()) {
	me := goroutine()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[me] { // a callback that publishes by a request of its own to this handler
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

// mistakes returns what was wrong with the callbacks as they were registered.
func (c *callbacks) mistakes() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wrong
}

// next returns what waits after what has been called; nil: nothing.
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

// call calls f. One that panics ends there.
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

// close waits until no callback waits or runs, but not for ever. Nothing is heard any more.
func (c *callbacks) close(most time.Duration) {
	over := false
	late := time.AfterFunc(most, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		over = true
		c.idle.Broadcast()
	})
	defer late.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for c.count > 0 && !over {
		c.idle.Wait()
	}
	if c.count > 0 {
		c.logger.Error("callbacks still run though the hub is closed", "waiting", c.count)
	}
}
