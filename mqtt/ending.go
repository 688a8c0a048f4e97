package mqtt

import (
	"slices"

	"github.com/watchbox-go/watchbox/internal/group"
)

// ending reports whether the client has unsubscribed. The subscription selects nothing more. It is kept until the messages
// that were in flight are acknowledged, because they have to be found again if the connection is lost.
func (x *subscription) ending() bool { return x.options&isEnding != 0 }

// isEnding is not an option of SUBSCRIBE.
const isEnding = 1 << 7

// maxEnding is how many subscriptions are kept that the client has ended.
const maxEnding = 16

// keepEnding keeps a subscription that the client has ended, if messages of it may be in flight. s.mu is held.
func (s *session) keepEnding(x subscription) {
	last := s.window.newest()
	if s.expiry == 0 || !x.logged() || last == 0 {
		return
	}
	if n := s.countEnding(); n >= maxEnding {
		i := slices.IndexFunc(s.subs, func(y subscription) bool { return y.ending() })
		s.subs = slices.Delete(s.subs, i, i+1)
	}
	s.subs = append(s.subs, subscription{topic: x.topic, filter: x.filter, options: x.qos() | isEnding, from: last})
}

func (s *session) countEnding() (n int) {
	for i := range s.subs {
		if s.subs[i].ending() {
			n++
		}
	}
	return n
}

// dropEnding removes the subscriptions that need not be kept any more, and returns their filters. s.mu is held.
func (s *session) dropEnding() (left []group.Filter) {
	s.subs = slices.DeleteFunc(s.subs, func(x subscription) bool {
		over := x.ending() && s.window.done(x.from) == x.from && !s.window.retained()
		if over {
			left = append(left, x.filter)
		}
		return over
	})
	return left
}
