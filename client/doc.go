// Package client is the Go client of a Watchbox hub. It subscribes to groups over one stream, which it
// resumes when the connection is lost, and publishes to groups.
//
//	c, err := client.New("http://127.0.0.1:1234")
//	…
//	sub, err := c.Join(ctx, "home/#", func(m client.Message) { fmt.Println(m.Group, m.Text()) })
//	id, err := c.Publish(ctx, "home/kitchen", "the kettle is on")
//
// # Guarantees
//
// A callback gets every message that is published after Join has returned, once and in the order of
// the log, also across lost connections and restarts of the hub. OnGap is called for messages that can no
// longer be delivered. A message that several joins match is sent over the wire once, and each of them gets it.
//
// A callback may or may not get messages that are published while Join runs. If its filter overlaps with one that is
// or was joined, it may also get messages from shortly before, which are already on the wire. A retained
// message is not sent again if the stream is cut before it arrives.
//
// Direct messages to this client (SendTo) are delivered while at least one filter is joined, also after an
// interruption. A client that leaves its last filter closes its stream, and may miss direct messages until its
// next Join.
//
// All callbacks of a Client, including those of its options, run one at a time and in order on one
// goroutine. They may be slow: when a megabyte waits for them, the client stops reading, and the hub keeps
// the rest. They may call every method except Close.
//
// # States
//
// The client has a stream while at least one filter is joined:
//
//	          Join                session event
//	  idle ─────────▶ connecting ──────────────▶ open
//	    ▲              │      ▲                   │
//	    │    no answer │      │ the time is up    │ lost: OnDisconnect
//	    │              ▼      │                   │ (back in open: OnReconnect)
//	    │             waiting ◀───────────────────┘
//	    │
//	    └── the last Leave, in any state
//
//	any ── Close · a final answer · kicked ──▶ closed
//
// An answer is final if it is 204, 401 or 403, or a problem from the hub itself (problem+json with a
// code) that is not temporary. Any other answer is final only before the hub's first answer, when the
// address may be wrong. Later it comes from a proxy while the hub is replaced, or from a network that
// requires a login. An attempt is repeated if the stream is not open within WithAnswerTimeout.
//
// The wait is the server's retry: or Retry-After plus a random part, so that a thousand clients do not reconnect at
// once. The bound of the random part doubles with each consecutive failure.
//
// Publish and the other calls that send messages do not need the stream.
package client
