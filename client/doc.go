// Package client is the Go client of a Watchbox hub. It subscribes to groups over one stream, which it
// resumes when the connection is lost, and publishes to groups.
//
//	c, err := client.New("http://127.0.0.1:1234")
//	…
//	sub, err := c.Join(ctx, "home/#", func(m client.Message) { fmt.Println(m.Group, m.Text()) })
//	id, err := c.Publish(ctx, "home/kitchen", "the kettle is on")
//
// # What is promised
//
// A callback gets every message that is published after Join has returned, once and in the order of
// the log, whatever happens to the connection or the server. OnGap is called for messages that can no
// longer be delivered. A message that several joins match is sent over the wire once, and each of them gets it.
//
// A callback may or may not get messages that are published while Join runs. If its filter overlaps with one that is
// or was joined, it may also get messages from shortly before, because they are on the wire already. A retained
// message is not sent again if the stream is cut before it has arrived.
//
// Direct messages to this client (SendTo) are delivered while anything is joined, also after an
// interruption. A client that leaves its last group closes its stream; direct messages between that and its
// next Join may be missed.
//
// All callbacks of a Client, those of its options too, run one at a time, in order, on one
// goroutine. They may be slow: when a megabyte waits for them, the client stops reading, and the hub keeps
// the rest. They may call every method except Close.
//
// # States
//
// The client has a stream as long as something is joined:
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
// An answer is final if it is 204, 401 or 403, or a problem of the hub's own (problem+json with a
// code) that is not temporary. Any other answer is final only before the hub has answered for the first
// time, when the address may be wrong; later it comes from a proxy while the hub is replaced, or from a
// network that wants a login. An attempt that is not open within WithAnswerTimeout is made again.
//
// The wait is what the server asks for by retry: and Retry-After plus a random part, whose bound doubles with
// each failure in a row, so that a thousand clients do not reconnect at once.
//
// Publish and the other calls that send messages do not need the stream.
package client
