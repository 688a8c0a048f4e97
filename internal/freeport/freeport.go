// Package freeport finds addresses for tests that start a program at a fixed address.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// The ports are below those that the system assigns. Each process uses a block of them.
const (
	lowest = 10_000
	size   = 200
	blocks = 100
)

// Addr returns an address of this machine on which nothing listens. No other test gets it, so that a program may start
// there later, end, and start again. A process gets the same address again after 199 others.
func Addr(t testing.TB) string {
	t.Helper()
	addr, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// Find is Addr for programs that are not tests.
func Find() (string, error) {
	b, err := own()
	if err != nil {
		return "", err
	}
	return b.find()
}

var own = sync.OnceValues(reserve)

// block is a block of ports that belongs to this process while it listens on the first one.
type block struct {
	first net.Listener
	port  int
	used  atomic.Int64
}

func reserve() (*block, error) {
	for _, i := range rand.Perm(blocks) {
		port := lowest + i*size
		if ln, err := net.Listen("tcp", address(port)); err == nil {
			return &block{first: ln, port: port}, nil
		}
	}
	return nil, errors.New("no ports are free")
}

func (b *block) find() (string, error) {
	for range size {
		addr := address(b.port + 1 + int(b.used.Add(1)-1)%(size-1))
		if ln, err := net.Listen("tcp", addr); err == nil {
			return addr, ln.Close()
		}
	}
	return "", errors.New("no port is free")
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
