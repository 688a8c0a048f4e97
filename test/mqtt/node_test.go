//go:build !windows

package mqtt_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// heard is a line that testdata/client.mjs prints.
type heard struct {
	Present *bool // it is connected
	Message *struct {
		Topic   string
		Payload []byte
		QoS     byte
		Retain  bool
	}
	Lost  *byte
	Done  string // the call that has ended
	Error string
}

// nodeClient returns how to connect with mqtt.js, in a process of its own. Version 4 is MQTT 3.1.1.
func nodeClient(version int, scheme string) func(testing.TB, *broker, connection) (*client, error) {
	return func(t testing.TB, b *broker, o connection) (*client, error) {
		t.Helper()
		options := map[string]any{"protocolVersion": version, "clean": !o.keep, "keepalive": 30}
		if o.id != "" {
			options["clientId"] = o.id
		}
		if o.keep && version == 5 {
			options["properties"] = map[string]any{"sessionExpiryInterval": 3600}
		}
		if o.password != "" {
			options["username"], options["password"] = "any", o.password
		}
		url := scheme + "://" + b.addr
		if scheme == "ws" {
			url = b.ws
		}
		if o.ca != "" {
			options["ca"], url = o.ca, strings.Replace(strings.Replace(url, "mqtt:", "mqtts:", 1), "ws:", "wss:", 1)
		}
		if w := o.will; w != nil {
			options["will"] = map[string]any{"topic": w.topic, "payload": []byte(w.payload), "qos": w.qos, "retain": w.retain}
		}
		return startNode(t, url, options)
	}
}

// startNode starts Node, and returns when the client is connected.
func startNode(t testing.TB, url string, options map[string]any) (*client, error) {
	text, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "client.mjs", url, string(text))
	cmd.Dir, cmd.Stderr = "testdata", os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, in: in, connected: make(chan heard, 1), done: make(chan heard, 1), lost: make(chan byte, 1), ended: make(chan struct{})}
	n.client = client{received: newList(), lost: n.lost, subscribe: n.subscribe, publish: n.publish,
		cut: func() { n.call("cut", nil) }, end: sync.OnceFunc(func() { n.call("end", nil) })}
	go n.listen(out)
	t.Cleanup(func() {
		_ = in.Close()
		<-n.ended
		if err := cmd.Wait(); err != nil {
			t.Error("node: ", err)
		}
	})
	h := receive(t, n.connected)
	if h.Present == nil {
		return nil, errors.New(h.Error)
	}
	n.present = *h.Present
	return &n.client, nil
}

// node is a client in a process of Node.
type node struct {
	client
	t         testing.TB
	in        io.WriteCloser
	connected chan heard
	done      chan heard
	lost      chan byte
	ended     chan struct{} // closed when the process says nothing more
}

func (n *node) listen(out io.Reader) {
	defer close(n.ended)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var h heard
		if err := json.Unmarshal(lines.Bytes(), &h); err != nil {
			n.t.Errorf("node printed %q: %v", lines.Text(), err)
			return
		}
		switch {
		case h.Message != nil:
			n.received.add(message{h.Message.Topic, string(h.Message.Payload), h.Message.QoS, h.Message.Retain})
		case h.Lost != nil:
			offer(n.lost, *h.Lost)
			h.Error = "the connection was closed"
			fallthrough
		case h.Present != nil, h.Done == "" && h.Error != "":
			select {
			case n.connected <- h:
			default: // it was connected before
			}
		default:
			n.done <- h
		}
	}
}

// call has the process do something, and returns when it is done.
func (n *node) call(op string, args map[string]any) heard {
	n.t.Helper()
	if args == nil {
		args = map[string]any{}
	}
	args["op"] = op
	line, err := json.Marshal(args)
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(n.in, "%s\n", line); err != nil {
		n.t.Fatal(err)
	}
	return receive(n.t, n.done)
}

func (n *node) must(op string, args map[string]any) {
	n.t.Helper()
	if h := n.call(op, args); h.Error != "" {
		n.t.Fatalf("%s %v: %s", op, args, h.Error)
	}
}

func (n *node) subscribe(filter string, qos byte) {
	n.t.Helper()
	n.must("subscribe", map[string]any{"filter": filter, "qos": qos})
}

func (n *node) publish(m message) {
	n.t.Helper()
	n.must("publish", map[string]any{"topic": m.topic, "payload": []byte(m.payload), "qos": m.qos, "retain": m.retain})
}
