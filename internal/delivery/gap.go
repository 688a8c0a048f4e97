package delivery

import "github.com/watchbox-go/watchbox/store"

// The reasons of a gap.
const (
	GapEvicted = "evicted" // the messages are no longer held
	GapEpoch   = "epoch"   // the id is not one of this log
	GapSlow    = "slow"    // the stream was slow, and its policy is to skip
)

// Gap tells a client that messages behind an id can no longer be had.
type Gap struct {
	Filter string
	After  string // the id behind which they lay
	Oldest string // the id of the first message that follows; "" for none
	Reason string
}

// AppendJSON appends the gap as the wire format has it.
func (g *Gap) AppendJSON(b []byte) []byte {
	b = store.AppendQuote(append(b, `{"filter":`...), g.Filter)
	b = store.AppendQuote(append(b, `,"after":`...), g.After)
	if g.Oldest != "" {
		b = store.AppendQuote(append(b, `,"oldest":`...), g.Oldest)
	}
	return append(store.AppendQuote(append(b, `,"reason":`...), g.Reason), '}')
}
