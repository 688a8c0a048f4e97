package sse

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAClientThatStillSendsGetsTheLastBytesOfAConnectionWithoutAPoller(t *testing.T) {
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
	_ = client.SetDeadline(time.Now().Add(time.Minute))
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s := newPipedSocket(conn, nil)
	much := bytes.Repeat([]byte("x"), 32<<10)
	if _, err := client.Write(much); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("bye")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := s.TryRead(make([]byte, 1)); n != 0 || err != ErrClosed {
		t.Errorf("%d, %v after Close", n, err)
	}
	for range 8 {
		if _, err := client.Write(much); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := io.ReadAll(client); string(got) != "bye" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// halfPipe is a connection whose sending half can be closed alone.
type halfPipe struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

func (*halfPipe) CloseWrite() error { return nil }

func (h *halfPipe) Close() error {
	h.once.Do(func() { close(h.closed) })
	return h.Conn.Close()
}

func TestAConnectionWithoutAPollerIsClosedWhenTheClientHasLeftToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, conn := net.Pipe()
		h := &halfPipe{Conn: conn, closed: make(chan struct{})}
		s := newPipedSocket(h, nil)
		synctest.Wait() // it reads
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_ = client.Close()
		synctest.Wait()
		select {
		case <-h.closed:
		default:
			t.Error("the connection is open")
		}
	})
}
