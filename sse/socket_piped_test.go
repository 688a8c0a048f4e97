package sse

import (
	"bytes"
	"io"
	"net"
	"testing"
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
