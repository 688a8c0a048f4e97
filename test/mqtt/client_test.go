//go:build !windows

package mqtt_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// message is what a client sends or receives.
type message struct {
	topic   string
	payload string
	qos     byte
	retain  bool
}

func (m message) String() string {
	kept := ""
	if m.retain {
		kept = ", retained"
	}
	return fmt.Sprintf("%s %.60q (QoS %d%s)", m.topic, m.payload, m.qos, kept)
}

// connection says how a client connects.
type connection struct {
	id       string   // its client id; "" lets the broker choose one
	keep     bool     // its session outlives the connection
	will     *message // nil for none
	password string
	tls      *tls.Config // nil for none
	ca       string      // the file behind tls, for programs
}

// client is a client of a library that is connected. All methods but end and cut fail the test if the broker refuses.
type client struct {
	present   bool // the broker had a session for it
	subscribe func(filter string, qos byte)
	publish   func(message) // returns when it is acknowledged as its QoS says
	received  *list
	lost      <-chan byte // the reason code with which the broker ended the connection, or 0
	cut       func()      // closes the socket without a word
	end       func()      // disconnects in an orderly way
}

// library is a client library of others.
type library struct {
	name    string
	v5      bool
	connect func(t testing.TB, b *broker, c connection) (*client, error)
}

var libraries = []library{
	{"paho.golang", true, connectPaho5},
	{"paho.mqtt.golang", false, connectPaho3},
	{"mqtt.js 3.1.1 tcp", false, nodeClient(4, "mqtt")},
	{"mqtt.js 5 websocket", true, nodeClient(5, "ws")},
}

// eachLibrary runs a test with each library.
func eachLibrary(t *testing.T, run func(t *testing.T, l library)) {
	for _, l := range libraries {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			run(t, l)
		})
	}
}

// must connects, and fails the test if the broker refuses.
func (l library) must(t testing.TB, b *broker, c connection) *client {
	t.Helper()
	cl, err := l.connect(t, b, c)
	if err != nil {
		t.Fatalf("connect %q: %v", c.id, err)
	}
	return cl
}

// list has what a client has received.
type list struct {
	mu      sync.Mutex
	all     []message
	changed chan struct{} // closed by the next change
}

func newList() *list { return &list{changed: make(chan struct{})} }

func (l *list) add(m message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, m)
	close(l.changed)
	l.changed = make(chan struct{})
}

// now returns what was received so far.
func (l *list) now() ([]message, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all), l.changed
}

// until waits for a message with this payload, and returns all up to it.
func (l *list) until(t testing.TB, payload string) []message {
	t.Helper()
	return l.wait(t, func(all []message) int {
		return 1 + slices.IndexFunc(all, func(m message) bool { return m.payload == payload })
	})
}

// wait waits until enough returns how many messages are needed, and returns them.
func (l *list) wait(t testing.TB, enough func([]message) int) []message {
	t.Helper()
	for deadline := time.After(patience); ; {
		all, changed := l.now()
		if n := enough(all); n > 0 {
			return all[:n]
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("received only %v", all)
		}
	}
}

// closer returns a function that closes a connection without a word.
func closer(c net.Conn) func() { return func() { _ = c.Close() } }
