// Package session keeps the sessions: which clients are connected, which are lost, and which are gone.
//
//	          first stream                last stream closes
//	(nobody) ─────────────▶ here ────────────────────────────▶ lost
//	    ▲                    ▲                                   │
//	    │                    └──────── a stream opens ───────────┤
//	    │                                                        │ timeout, end or kick
//	    └─────────────────────────── gone ◀──────────────────────┘
//
// A session is a member of each filter that one of its streams has. A membership is lost when the last
// stream with that filter closes. It comes back when another stream opens with the filter, and it ends
// when the session is gone.
//
// What happens is told to the registry's watcher, in order for each session, under that session's
// lock: what a return cancels has then either happened before it, or never does. No session has a
// goroutine; one that waits for something has a timer.
package session
