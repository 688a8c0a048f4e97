//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"time"
)

// figure is what is measured of both servers.
type figure struct {
	name, what, reach string
	onDisk            bool
	measure           func(s *server, o options) (float64, error)
}

// options say how large the loads are.
type options struct {
	dur   time.Duration
	conns int // idle connections and sessions
}

var figures = []figure{
	{"fanout", "1 publisher, 1,000 subscribers, QoS 0, 20 messages/s: CPU µs of the server per delivery", "≤ 1", false, fanOut},
	{"fanin", "1,000 publishers, 1 subscriber, QoS 1: messages/s", "≥ 1", false, fanIn},
	{"qos1", "1 publisher, QoS 1, 64 in flight: messages/s (the hub syncs to disk, mosquitto does not)", "≥ 20,000/s", true, inFlight},
	{"idle", "idle connections with a subscription: bytes each", "≤ 4,096", false, idle},
	{"recent", "sessions of clients that have just left: bytes each", "", false, offline},
	{"offline", "sessions of clients that have been away for longer than ten minutes: bytes each", "≤ 1,024", false, longOffline},
}

// payload is what each message carries.
var payload = bytes.Repeat([]byte("x"), 128)

func none(int) (string, byte) { return "", 0 }

func fanOut(s *server, o options) (float64, error) {
	const subscribers, rate = 1000, 20
	l, err := newLoop(s.addr)
	if err != nil {
		return 0, err
	}
	defer l.close()
	got := 0
	l.on = func(_ *conn, head byte, _ []byte) {
		if head>>4 == publishes {
			got++
		}
	}
	if _, err := l.open("s", subscribers, false, func(int) (string, byte) { return "fan/out", 0 }); err != nil {
		return 0, err
	}
	p, err := l.open("p", 1, false, none)
	if err != nil {
		return 0, err
	}
	message := publishPacket("fan/out", 0, 0, payload)
	run := func(n int) error {
		sent, begin := 0, time.Now()
		got = 0
		err := l.run(time.Duration(n)*time.Second/rate+time.Minute, func() {
			for sent < n && time.Since(begin) >= time.Duration(sent)*time.Second/rate {
				p[0].send(message)
				sent++
			}
		}, func() bool { return got == n*subscribers })
		if err != nil {
			return fmt.Errorf("%d of %d deliveries: %w", got, n*subscribers, err)
		}
		return nil
	}
	if err := run(rate); err != nil { // to warm up
		return 0, err
	}
	n := int(o.dur.Seconds() * rate)
	before := s.cpu()
	err = run(n)
	return float64((s.cpu() - before).Microseconds()) / float64(n*subscribers), err
}

func fanIn(s *server, o options) (float64, error) {
	const publishers = 1000
	l, err := newLoop(s.addr)
	if err != nil {
		return 0, err
	}
	defer l.close()
	message := publishPacket("fan/in", 1, 1, payload)
	var sent, acked, got int
	sending := true
	l.on = func(c *conn, head byte, body []byte) {
		switch head >> 4 {
		case publishes:
			got++
			c.reply = append(c.reply, pubackPacket(publishID(body))...)
		case puback:
			acked++
			if sending {
				sent++
				c.reply = append(c.reply, message...)
			}
		}
	}
	if _, err := l.open("s", 1, false, func(int) (string, byte) { return "fan/in", 1 }); err != nil {
		return 0, err
	}
	p, err := l.open("p", publishers, false, none)
	if err != nil {
		return 0, err
	}
	for _, c := range p {
		sent++
		c.send(message)
	}
	began, begin := 0, time.Now()
	warm := false
	if err := l.run(2*o.dur+time.Minute, func() {
		if !warm && time.Since(begin) > o.dur/10 {
			warm, began, begin = true, got, time.Now()
		}
	}, func() bool { return warm && time.Since(begin) >= o.dur }); err != nil {
		return 0, err
	}
	rate := float64(got-began) / time.Since(begin).Seconds()
	sending = false
	if err := l.run(time.Minute, nil, func() bool { return acked == sent && got == sent }); err != nil {
		return 0, fmt.Errorf("%d sent, %d acknowledged, %d received: %w", sent, acked, got, err)
	}
	return rate, nil
}

func inFlight(s *server, o options) (float64, error) {
	const window = 64
	l, err := newLoop(s.addr)
	if err != nil {
		return 0, err
	}
	defer l.close()
	acked, sending := 0, true
	next := func(c *conn) []byte {
		if c.id++; c.id == 0 {
			c.id = 1
		}
		return publishPacket("in/flight", 1, c.id, payload)
	}
	l.on = func(c *conn, head byte, _ []byte) {
		if head>>4 == puback {
			acked++
			if sending {
				c.reply = append(c.reply, next(c)...)
			}
		}
	}
	p, err := l.open("p", 1, false, none)
	if err != nil {
		return 0, err
	}
	for range window {
		p[0].send(next(p[0]))
	}
	begin := time.Now()
	err = l.run(o.dur+time.Minute, nil, func() bool { return time.Since(begin) >= o.dur })
	sending = false
	return float64(acked) / time.Since(begin).Seconds(), err
}

func ownTopic(i int) (string, byte) { return fmt.Sprint("idle/", i), 1 }

func idle(s *server, o options) (float64, error) {
	l, err := newLoop(s.addr)
	if err != nil {
		return 0, err
	}
	defer l.close()
	before := settled(s)
	if _, err := l.open("c", o.conns, false, ownTopic); err != nil {
		return 0, err
	}
	return float64(settled(s)-before) / float64(o.conns), nil
}

// sessionTimeout is the hub's, with a margin: a session whose client has left is lost until then, and a position afterwards.
const sessionTimeout = 12 * time.Second

// offline measures the second of two equal crowds, so that what the server needs for the first is not counted.
func offline(s *server, o options) (float64, error) {
	var before int
	for round := range 2 {
		before = settled(s)
		for i := 0; i < o.conns; i += 500 {
			l, err := newLoop(s.addr)
			if err != nil {
				return 0, err
			}
			n := min(500, o.conns-i)
			conns, err := l.open(fmt.Sprintf("offline-%d-%d-", round, i), n, true, ownTopic)
			for _, c := range conns {
				c.send(disconnectPacket)
			}
			l.close()
			if err != nil {
				return 0, err
			}
		}
		time.Sleep(sessionTimeout)
	}
	return float64(settled(s)-before) / float64(o.conns), nil
}

// longOffline measures offline without the presence messages, which the hub forgets after ten minutes.
func longOffline(s *server, o options) (float64, error) {
	if err := s.forgetPresence(); err != nil {
		return 0, err
	}
	return offline(s, o)
}

// settled returns the server's memory when it has not become less for some seconds, after half a minute at most.
func settled(s *server) int {
	least, since := s.memory(), time.Now()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && time.Since(since) < 5*time.Second; {
		time.Sleep(200 * time.Millisecond)
		if now := s.memory(); now < least-least/200 {
			least, since = now, time.Now()
		}
	}
	return s.memory()
}

// bareSyncs returns how often a second the disk below a folder can write 4 KiB and sync it.
func bareSyncs(dir string, dur time.Duration) (float64, error) {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	page := make([]byte, 4096)
	n, begin := 0, time.Now()
	for ; time.Since(begin) < dur; n++ {
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}
