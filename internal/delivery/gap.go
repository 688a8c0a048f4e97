package delivery

import "github.com/watchbox-go/watchbox/store"

// The reasons for a gap.
const (
	GapEvicted = "evicted" // the messages are no longer held
	GapEpoch   = "epoch"   // the id is not one of this log
	GapSlow    = "slow"    // the stream was slow, and its policy is slow: skip
)

// Gap is the event for a client that messages after an id can no longer be delivered.
type Gap struct {
	Filter string
	After  string // the messages came after this id
	Oldest string // the id of the next message to be delivered; "": none yet
	Reason string
}

// AppendJSON appends the gap in the wire format.
func (g *Gap) AppendJSON(b []byte) []byte {
	b = store.AppendQuote(append(b, `{"filter":`...), g.Filter)
	b = store.AppendQuote(append(b, `,"after":`...), g.After)
	if g.Oldest != "" {
		b = store.AppendQuote(append(b, `,"oldest":`...), g.Oldest)
	}
	return append(store.AppendQuote(append(b, `,"reason":`...), g.Reason), '}')
}
