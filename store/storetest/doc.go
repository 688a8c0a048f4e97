// Package storetest is the test suite for stores. It tests each numbered promise of package store and
// each property of a policy, and compares random operations with a plain slice.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T, o storetest.Options) store.Store { … })
//	}
//
// A store that passes is complete. To check that the suite finds bugs, its own tests run it with a
// store that is broken in one way at a time.
package storetest
