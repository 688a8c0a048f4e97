package mqtt

import (
	"bytes"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/sse"
	"github.com/watchbox-go/watchbox/store/memory"
)

// scripted is a socket whose input is given, in parts, and whose output is kept.
type scripted struct {
	mu     sync.Mutex // guards what follows
	parts  [][]byte
	out    bytes.Buffer
	closed bool
}

func (s *scripted) TryRead(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.parts) > 0 && len(s.parts[0]) == 0 {
		s.parts = s.parts[1:]
	}
	if s.closed || len(s.parts) == 0 {
		return 0, sse.ErrClosed
	}
	n := copy(p, s.parts[0])
	s.parts[0] = s.parts[0][n:]
	return n, nil
}

func (s *scripted) TryWrite(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, sse.ErrClosed
	}
	return s.out.Write(p)
}

func (s *scripted) Write(p []byte) (int, error) { return s.TryWrite(p) }
func (s *scripted) Blocking() bool              { return false }
func (s *scripted) Watch(func(error))           {}
func (s *scripted) Serve()                      {}
func (s *scripted) Expect()                     {}
func (s *scripted) Readable(f func())           { f() }

func (s *scripted) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// connects are the CONNECT packets that fuzzed input follows.
var connects = [][]byte{
	nil,
	{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 1, 'a'},
	{0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 1, 'a'},
}

// FuzzRead sends any bytes to a server, before and after a CONNECT of each version, in two parts. The server must not
// panic, whatever it sends must be whole packets, and afterwards nothing of the connection may be left.
func FuzzRead(f *testing.F) {
	for _, cases := range packets.TPacketData {
		for _, c := range cases {
			for version := range connects {
				f.Add(uint8(version), c.RawBytes, uint16(len(c.RawBytes)/2))
				f.Add(uint8(version), bytes.Repeat(c.RawBytes, 2), uint16(1))
			}
		}
	}
	o := hub.Defaults()
	o.MaxMessage = 1000
	h, err := hub.New(memory.New(memory.Options{MaxMemory: 16 << 20, MaxGroups: 1000}), o)
	if err != nil {
		f.Fatal(err)
	}
	server := New(h, Options{Logger: o.Logger, QueueQoS0: true})
	f.Cleanup(func() {
		h.EndStreams("shutdown")
		_ = server.Close()
		_ = h.Close()
	})
	f.Fuzz(func(t *testing.T, version uint8, b []byte, cut uint16) {
		b = append(bytes.Clone(connects[int(version)%len(connects)]), b...)
		at := min(int(cut), len(b))
		s := &scripted{parts: [][]byte{b[:at], b[at:]}}
		c := newConn(server, s, "192.0.2.1:1")
		server.mu.Lock()
		server.conns[c] = true
		server.running.Add(1)
		server.mu.Unlock()
		c.begin()
		<-c.done.reached()
		s.mu.Lock()
		out := bytes.Clone(s.out.Bytes())
		s.mu.Unlock()
		if missing(out, len(out), 0) != 0 {
			t.Errorf("a part of a packet was sent: % x", out)
		}
		server.mu.Lock()
		defer server.mu.Unlock()
		if server.holders[c.key] != nil && c.key != "" {
			t.Error("the session is still held")
		}
	})
}
