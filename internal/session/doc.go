// Package session knows who is here and who left.
//
//	          first stream                last stream closes
//	(nobody) ─────────────▶ here ────────────────────────────▶ lost
//	    ▲                    ▲                                   │
//	    │                    └──────── a stream opens ───────────┤
//	    │                                                        │ timeout, end or kick
//	    └─────────────────────────── gone ◀──────────────────────┘
//
// A session is a member of what its streams listen to, each filter once, however many streams have
// it. A membership is lost with the last stream that has it, and comes back or is left just so.
//
// What happens is told to the registry's watcher, in order for each session, under that session's
// lock: what a return cancels has then either happened before it, or never does. No session has a
// goroutine; one that waits for something has a timer.
package session
