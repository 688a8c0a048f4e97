package sse

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A road is a kind of connection that can be adopted.
type road struct {
	name string
	wire wire
	kind string // of the listener; "": net.Pipe
	hide bool   // the socket is hidden
	free bool   // it costs no goroutine
}

var roads = []road{
	{name: "plain", kind: "tcp", free: true},
	{name: "TLS 1.2", wire: tls12, kind: "tcp", free: true},
	{name: "TLS 1.3", wire: tls13, kind: "tcp", free: true},
	{name: "Unix", kind: "unix", free: true},
	{name: "hidden", kind: "tcp", hide: true},
	{name: "pipe"},
}

func eachRoad(t *testing.T, test func(*testing.T, road)) {
	for _, r := range roads {
		t.Run(r.name, func(t *testing.T) {
			leavesNothing(t)
			test(t, r)
		})
	}
}

// connect returns both ends of a connection.
func (r road) connect(t testing.TB) (server, client net.Conn) {
	t.Helper()
	if r.kind == "" {
		server, client = net.Pipe()
	} else {
		server, client = r.dial(t)
	}
	t.Cleanup(func() { _ = client.Close() })
	if r.hide {
		server = hide(server)
	}
	return server, client
}

func (r road) dial(t testing.TB) (server, client net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if r.kind == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(r.kind, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ready := make(chan net.Conn)
	go func() {
		conn, err := r.wire.listener(ln).Accept()
		if layer, ok := conn.(*tls.Conn); ok {
			err = layer.Handshake()
		}
		if err != nil {
			t.Error(err)
		}
		ready <- conn
	}()
	raw, err := net.Dial(r.kind, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client = r.wire.client(raw)
	if layer, ok := client.(*tls.Conn); ok {
		if err := layer.Handshake(); err != nil {
			t.Fatal(err)
		}
	}
	return <-ready, client
}

// adopt returns a socket and its client.
func (r road) adopt(t testing.TB, p *Poller, early []byte) (Socket, net.Conn) {
	t.Helper()
	server, client := r.connect(t)
	s, err := p.Adopt(server, early)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, client
}

// await waits until something can be read.
func await(s Socket) {
	ready := make(chan struct{})
	s.Readable(func() { close(ready) })
	<-ready
}

// readAll reads until there is an error, with buffers of random sizes.
func readAll(s Socket, give func([]byte)) error {
	for {
		b := make([]byte, 1+rand.IntN(8<<10))
		switch n, err := s.TryRead(b); {
		case err != nil:
			return err
		case n == 0:
			await(s)
		default:
			give(b[:n])
		}
	}
}

func TestASocketReadsAndWritesEverything(t *testing.T) {
	eachRoad(t, func(t *testing.T, r road) {
		s, client := r.adopt(t, poller(t, 0), nil)
		sent := make([]byte, 1<<20)
		for i := range sent {
			sent[i] = byte(i * i >> 8)
		}
		ended := make(chan error, 1)
		go func() { // echoes
			err := readAll(s, func(b []byte) {
				if _, err := s.Write(b); err != nil {
					t.Error(err)
				}
			})
			if _, failed := s.Write([]byte("end")); r.kind != "" && failed != nil {
				t.Errorf("a write after the end of the input: %v", failed)
			}
			_ = s.Close()
			ended <- err
		}()
		go func() {
			for b := sent; len(b) > 0; {
				n, err := client.Write(b[:min(len(b), 1+rand.IntN(32<<10))])
				if err != nil {
					t.Error(err)
					return
				}
				b = b[n:]
			}
			if half, ok := client.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
		}()
		got := make([]byte, len(sent))
		if n, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("received %d bytes, %v, or others than were sent", n, err)
		}
		if r.kind == "" {
			_ = client.Close()
		} else if rest, err := io.ReadAll(client); err != nil || string(rest) != "end" {
			t.Errorf("received %q at last, %v", rest, err)
		}
		if err := <-ended; err != io.EOF {
			t.Errorf("the input ends with %v", err)
		}
		if _, err := s.TryRead(got); err != ErrClosed {
			t.Errorf("TryRead after Close: %v", err)
		}
	})
}

// Each byte is sent when the one before was answered, so that no later arrival makes up for one that was missed.
func TestASocketMissesNoArrival(t *testing.T) {
	eachRoad(t, func(t *testing.T, r road) {
		s, client := r.adopt(t, poller(t, 0), nil)
		var turn func()
		turn = func() {
			b := make([]byte, 10)
			for {
				n, err := s.TryRead(b)
				if err != nil {
					return
				}
				if n == 0 {
					s.Readable(func() { go turn() })
					return
				}
				if _, err := s.Write(b[:n]); err != nil {
					t.Error(err)
				}
			}
		}
		turn()
		b := make([]byte, 10)
		for i := range 2000 {
			n := 1 + i%10 // the reader's buffer is full with 10
			if _, err := client.Write(b[:n]); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(client, b[:n]); err != nil {
				t.Fatal(err)
			}
		}
		_ = client.Close()
		settle(t, "the end is not read", func() bool { n, err := s.TryRead(b); return n == 0 && err == io.EOF })
	})
}

func TestASocketBeginsWithTheBytesThatWereReadAlready(t *testing.T) {
	eachRoad(t, func(t *testing.T, r road) {
		s, client := r.adopt(t, poller(t, 0), []byte("hello, "))
		go func() {
			_, _ = client.Write([]byte("world"))
			_ = client.Close()
		}()
		var got []byte
		if err := readAll(s, func(b []byte) { got = append(got, b...) }); err != io.EOF || string(got) != "hello, world" {
			t.Errorf("received %q, %v", got, err)
		}
	})
}

func TestAWriteToASocketThatIsNotReadWaits(t *testing.T) {
	eachRoad(t, func(t *testing.T, r road) {
		s, client := r.adopt(t, poller(t, 0), nil)
		if s.Blocking() == r.free {
			t.Errorf("Blocking is %v", s.Blocking())
		}
		written := 0
		for r.free {
			n, err := s.TryWrite(make([]byte, 1<<20))
			if written += n; err != nil || n == 0 {
				break
			}
		}
		done := make(chan error)
		go func() { _, err := s.Write(make([]byte, 1<<20)); done <- err }()
		if _, err := client.Write([]byte("x")); err != nil { // arrives meanwhile
			t.Fatal(err)
		}
		await(s)
		if n, err := io.CopyN(io.Discard, client, int64(written+1<<20)); err != nil {
			t.Errorf("received %d bytes of %d: %v", n, written+1<<20, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n, err := s.TryRead(make([]byte, 2)); n != 1 || err != nil {
			t.Errorf("TryRead: %d, %v", n, err)
		}
		go func() { _, err := s.Write(make([]byte, 64<<20)); done <- err }()
		_ = s.Close()
		if err := <-done; err == nil {
			t.Error("Close does not end a write")
		}
	})
}

func TestAResetOfASocketIsReadAfterTheBytesBefore(t *testing.T) {
	leavesNothing(t)
	s, client := roads[0].adopt(t, poller(t, 0), nil)
	if _, err := client.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	var got []byte
	b := make([]byte, 20)
	settle(t, "nothing arrives", func() bool { n, _ := s.TryRead(b); got = append(got, b[:n]...); return len(got) == 10 })
	_ = client.(*net.TCPConn).SetLinger(0)
	_ = client.Close()
	if err := readAll(s, func(b []byte) { t.Errorf("received %q", b) }); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the input ends with %v", err)
	}
}

func TestASocketWhosePeerAcknowledgesNothingEnds(t *testing.T) {
	on(t, func(t *testing.T, w wire) {
		s, client := road{kind: "tcp", wire: w}.adopt(t, poller(t, testTimeout), nil)
		if _, err := s.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := client.Read(make([]byte, 1)); err != nil { // now the client has nothing to send again
			t.Error(err)
		}
		gone := make(chan error, 1)
		s.Watch(func(err error) { gone <- err })
		ended := make(chan error, 1)
		go func() { ended <- readAll(s, func([]byte) {}) }()
		(&peer{Conn: client, t: t}).deafen()
		if _, err := s.TryWrite([]byte("is anybody there?")); err != nil {
			t.Error(err)
		}
		for _, err := range []error{<-gone, <-ended} {
			if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
				t.Errorf("ended with %v, want a timeout", err)
			}
		}
	}, plainHTTP, tls13)
}

func TestAConnectionIsNotAdoptedBeforeItsHandshake(t *testing.T) {
	leavesNothing(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := tls13.listener(ln).Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := poller(t, 0).Adopt(conn, nil); !errors.Is(err, errHandshake) {
		t.Errorf("Adopt: %v", err)
	}
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection is not closed: %v", err)
	}
}

func TestIdleSocketsTakeNoGoroutine(t *testing.T) {
	eachRoad(t, func(t *testing.T, r road) {
		p := poller(t, 0)
		first, _ := r.adopt(t, p, nil)
		first.Readable(func() {})
		before := runtime.NumGoroutine()
		var readable atomic.Int64
		for range 20 {
			s, client := r.adopt(t, p, nil)
			if n, err := s.TryRead(make([]byte, 1)); n != 0 || err != nil {
				t.Errorf("TryRead: %d, %v", n, err)
			}
			s.Readable(func() { readable.Add(1) })
			_ = client
		}
		want := before
		if !r.free {
			want += 20
		}
		settle(t, fmt.Sprintf("there are not %d goroutines", want), func() bool { return runtime.NumGoroutine() <= want })
		if n := readable.Load(); n > 0 {
			t.Errorf("%d of them are readable", n)
		}
	})
}

// BenchmarkIdleSocket measures the memory of a socket that waits for input.
func BenchmarkIdleSocket(b *testing.B) {
	p := poller(b, time.Minute)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	to := &unix.SockaddrInet4{Port: ln.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}
	const count = 2000
	clients, sockets := make([]int, count), make([]Socket, count)
	open := func(i int) {
		if clients[i], err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			b.Fatal(err)
		}
		if err := unix.Connect(clients[i], to); err != nil {
			b.Fatal(err)
		}
		conn, err := ln.Accept()
		if err != nil {
			b.Fatal(err)
		}
		if sockets[i], err = p.Adopt(conn, nil); err != nil {
			b.Fatal(err)
		}
		_, _ = sockets[i].TryRead(make([]byte, 1))
		sockets[i].Readable(func() {})
	}
	for b.Loop() {
		before := memory()
		for i := range count {
			open(i)
		}
		b.ReportMetric(float64(memory()-before)/count, "B/socket")
		for i := range count {
			_ = sockets[i].Close()
			_ = unix.Close(clients[i])
			sockets[i] = nil
		}
	}
}

// memory returns the bytes in use on the heap and by stacks.
func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
