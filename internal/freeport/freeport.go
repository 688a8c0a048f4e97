// Package freeport finds addresses for tests that start a program at a fixed address.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// Addr returns an address of this machine on which nothing listens. Its port is below those that the system
// assigns, so that no other test gets it before the program listens.
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
	for range 1000 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err == nil {
			_ = ln.Close()
			return ln.Addr().String(), nil
		}
	}
	return "", errors.New("no port is free")
}
