package storetest

import (
	"slices"
	"testing"

	"github.com/watchbox-go/watchbox/store"
)

// Options say which store a test needs. Zero means the implementation's default.
type Options struct {
	MaxMemory int64        // bytes for all history; ignored by a store without such a bound
	MaxGroups int          // most groups
	Server    store.Policy // the server's policy, which all others inherit

	// Dir names a log that outlives Close: opening it again continues it. A store without
	// persistence ignores it and begins a new epoch.
	Dir string
}

// open opens a new, empty store, or the one of Options.Dir.
type open func(t *testing.T, o Options) store.Store

// test is a promise in words, and the function that tests it.
type test struct {
	name string
	run  func(e *env)
}

// Run tests the stores that open returns. Each subtest opens a store and closes it. Run counts
// goroutines, so that no other test may run in parallel.
func Run(t *testing.T, open func(t *testing.T, o Options) store.Store) {
	runTests(t, open, slices.Concat(
		promises, orderTests, gapTests, retainedTests, policyTests, ageTests,
		purgeTests, findTests, readTests, liveTests, boundTests, expiryTests, closeTests, stressTests, randomTests,
	))
}

func runTests(t *testing.T, open open, tests []test) {
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			e := &env{T: t, open: open}
			e.guard(func() { c.run(e) })
		})
	}
}
