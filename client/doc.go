// Package client is a program's end of a Watchbox hub: groups to listen to and to send to, over one
// stream that is resumed when it is lost.
//
//	c, err := client.New("http://127.0.0.1:1234")
//	…
//	sub, err := c.Join(ctx, "home/#", func(m client.Message) { fmt.Println(m.Group, m.Text()) })
//	id, err := c.Publish(ctx, "home/kitchen", "the kettle is on")
//
// # What is promised
//
// A callback hears of every message that is published after Join has returned, once and in the
// order of the log, whatever happens to the connection or the server. What can no longer be had is
// told to OnGap. A message that several joins match comes over the wire once, and each of them
// gets it.
//
// What is published while Join runs may be heard or not, and so may be what was published shortly
// before where a filter overlaps with one that is or was joined: it is on the wire already. A value
// that a group retains is not sent again if the stream is cut before it has come.
//
// What others send to this client (SendTo) is heard while anything is joined, and over interruptions
// of that. A client that leaves its last group closes its stream; what is sent to it between that and
// its next Join may not be heard.
//
// All callbacks of a Client, those of its options too, run one at a time, in order, on one
// goroutine. They may take their time: when a megabyte waits for them, the client stops reading,
// and the hub keeps the rest. They may call everything but Close.
//
// # States
//
// A stream is open as long as something is joined:
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
// The wait is what the server asks for by retry: and Retry-After, and a random part that doubles
// with each failure in a row, so that a thousand clients do not come back at once.
//
// Publish, and whatever else is sent, does not need the stream.
package client
