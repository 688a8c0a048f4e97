package sse

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func TestAClientThatStillSendsGetsTheLastBytesOfAClosedSocket(t *testing.T) {
	for _, r := range roads {
		if !r.free {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			s, client := r.adopt(t, poller(t, 0), nil)
			_ = client.SetDeadline(time.Now().Add(time.Minute))
			much := bytes.Repeat([]byte("x"), 32<<10)
			if _, err := client.Write(much); err != nil {
				t.Fatal(err)
			}
			if _, err := s.TryWrite([]byte("bye")); err != nil {
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
		})
	}
}

func TestASocketWhosePeerDoesNotCloseIsClosed(t *testing.T) {
	s, client := roads[0].adopt(t, poller(t, 0), nil)
	_ = client.SetDeadline(time.Now().Add(time.Minute))
	err := s.Close()
	for err == nil {
		_, err = client.Write([]byte("x"))
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		t.Error(err)
	}
}
