// Package storetest is the suite that every store passes: one test per numbered promise of
// package store, one per property of a policy, and random operations against a plain slice.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T, o storetest.Options) store.Store { … })
//	}
//
// Nothing else is asked of a store. That the suite finds what it should is tested with a store
// of its own, made wrong in one way at a time.
package storetest
