package storetest

import (
	"slices"
	"testing"

	"github.com/watchbox-go/watchbox/store"
)

// Options say which store a test needs. Zero means the implementation's default.
type Options struct {
	MaxMemory int64        // bytes for all history; a store that has no such bound ignores it
	MaxGroups int          // how many groups it may hold
	Server    store.Policy // what applies where no policy says anything

	// Dir names a log that outlives Close: opening the same one again goes on with it. A store
	// that keeps nothing ignores it, and begins a new epoch.
	Dir string
}

// open opens a new, empty store, or that of Options.Dir.
type open func(t *testing.T, o Options) store.Store

// test is one promise, in words.
type test struct {
	name string
	run  func(e *env)
}

// Run tests the store that open returns. Each subtest opens its own, and closes it. It counts
// goroutines, so that no test may run in parallel with it.
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
