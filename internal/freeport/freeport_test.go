package freeport

import (
	"strings"
	"testing"
)

func TestNoAddressIsFoundTwice(t *testing.T) {
	found := map[string]bool{}
	for range 3 { // as three processes
		b, err := reserve()
		if err != nil {
			t.Fatal(err)
		}
		defer b.first.Close()
		for range size / 2 {
			addr, err := b.find()
			if err != nil {
				t.Fatal(err)
			}
			if found[addr] || !strings.HasPrefix(addr, "127.0.0.1:") {
				t.Errorf("%s was found again, or is not an address of this machine", addr)
			}
			found[addr] = true
		}
	}
}
