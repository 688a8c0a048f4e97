// Package session tracks which clients are connected, lost or gone.
//
//	       first stream opens              last stream closes
//	(none) ──────────────────▶ connected ─────────────────────▶ lost
//	                            │     ▲                          │ │
//	                            │     └───── a stream opens ─────┘ │
//	                end or kick │                                  │ timeout, end or kick
//	                            └────────────▶ gone ◀──────────────┘
//
// A session is a member of each filter that one of its streams has. A membership is lost when the last
// stream with that filter closes. It comes back when another stream opens with the filter. It ends when
// it has been lost for the session timeout or when the session is gone.
//
// The registry reports events to its watcher in order for each session, under that session's lock. So an
// event that a reconnect cancels, such as a will, either happens before the reconnect or never. Sessions
// have no goroutines. One timer serves all sessions that wait for a point in time.
package session
