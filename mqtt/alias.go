package mqtt

import (
	"strings"

	"github.com/watchbox-go/watchbox/store"
)

// maxAliases is the most topic aliases that are used with a client, which may allow more.
const maxAliases = 32

// aliases are the topic aliases of the server: short numbers that stand for topics. When all are in use, a new topic
// takes the one that was not used for the longest time.
type aliases struct {
	list []alias // alias n is at n-1
	now  uint32
}

type alias struct {
	group string
	used  uint32    // when; see aliases.now
	since store.Seq // the message that tells the client; 0: it knows
}

// find returns the alias for a group, and whether the client knows that already.
func (a *aliases) find(group string, most uint16) (n uint16, known bool) {
	if a == nil {
		return 1, false
	}
	oldest := 0
	for i := range a.list {
		if a.list[i].group == group {
			return uint16(i + 1), true
		}
		if a.list[i].used < a.list[oldest].used {
			oldest = i
		}
	}
	if len(a.list) < min(int(most), maxAliases) {
		return uint16(len(a.list) + 1), false
	}
	return uint16(oldest + 1), false
}

// use records that a message carries the alias that find returned.
func (a *aliases) use(n uint16, known bool, f *store.Frame) {
	if int(n) > len(a.list) {
		a.list = append(a.list, alias{})
	}
	x := &a.list[n-1]
	if !known {
		x.group, x.since = strings.Clone(f.Group), f.Seq
	}
	a.now++
	x.used = a.now
}

// sent takes back the aliases that messages behind a position would have told, since these were not sent.
func (a *aliases) sent(reached store.Seq) {
	if a == nil {
		return
	}
	for i := range a.list {
		x := &a.list[i]
		if x.since > reached {
			x.group, x.used = "", 0
		}
		x.since = 0
	}
}
