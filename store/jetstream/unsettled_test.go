package jetstream

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
)

// settling is a tail that a test feeds, and what it tells of appends.
type settling struct {
	*holed
	told []string
}

func newSettling(t *testing.T) *settling {
	s := &settling{holed: newHoled(t)}
	s.l.self = message(1, 0).by.log
	return s
}

// begin begins the next append.
func (s *settling) begin() *publication {
	var p *publication
	p = s.l.pending.add(nil, appendOptions{stored: func(first store.ID) { s.told = append(s.told, fmt.Sprint(p.number, " as ", first)) }})
	return p
}

// unknown is an append whose outcome is unknown.
func (s *settling) unknown(bytes int) {
	p := s.begin()
	p.bodies = make([]byte, bytes)
	s.l.pending.end(p, store.ErrUnknownOutcome)
}

// wants fails unless these appends were told since the last call.
func (s *settling) wants(told ...string) {
	s.Helper()
	if got, want := strings.Join(s.told, ", "), strings.Join(told, ", "); got != want {
		s.Errorf("told were %q, want %q", got, want)
	}
	s.told = nil
}

func TestAnAppendWithAnUnknownOutcomeIsToldOnceWhenItIsPlaced(t *testing.T) {
	s := newSettling(t)
	for range 3 {
		s.unknown(1)
	}
	s.feed(1, message(3, 0))
	s.feed(2, message(1, 0))
	s.wants("3 as e-1", "1 as e-2")
	s.feed(3, message(1, 0)) // the servers may store an attempt again that was late by minutes
	s.wants()
	last := message(2, 0)
	last.index = 2
	s.feed(6, last) // somebody has purged the others before this hub read them
	s.idle(&nats.Msg{})
	s.flush()
	s.wants("2 as e-4")
}

func TestAnAppendWithAKnownOutcomeIsNotTold(t *testing.T) {
	s := newSettling(t)
	refused, placed := s.begin(), s.begin()
	s.l.pending.end(refused, store.ErrFull)
	s.feed(1, message(1, 0))
	s.feed(2, message(2, 0))
	if !s.l.pending.end(placed, store.ErrUnknownOutcome) || placed.first.Seq != 2 {
		t.Errorf("an append that is placed when its time is over is at %v", placed.first)
	}
	s.feed(3, message(2, 0))
	s.wants()
}

func TestAnAppendThatIsPlacedIsNotMissedBehindOtherAnswers(t *testing.T) {
	s := newSettling(t)
	p := s.begin()
	s.feed(1, message(1, 0))
	for range 2 * cap(p.answers) { // to its other attempts
		p.tell(answer{duplicate: true})
	}
	if <-p.answers; !p.placed.Load() {
		t.Error("the append does not know that it is placed")
	}
}

func TestANewEpochForgetsAppends(t *testing.T) {
	s := newSettling(t)
	s.unknown(1)
	s.renew("f", &jetstream.StreamInfo{})
	s.feed(1, message(1, 0)) // a backup may have it
	s.wants()
}

func TestTheOldestAppendsWithAnUnknownOutcomeAreForgotten(t *testing.T) {
	for name, more := range map[string]func(s *settling){ // the first append is forgotten, and the second is not
		"when there are too many": func(s *settling) {
			for range maxUnsettled {
				s.unknown(1)
			}
		},
		"when they are too large": func(s *settling) {
			s.unknown(1)
			s.unknown(maxUnsettledBytes - 1)
		},
		"after a long time": func(s *settling) {
			time.Sleep(time.Second)
			s.unknown(1)
			time.Sleep(unsettledFor)
			s.l.pending.sweep(time.Now())
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSettling(t)
				s.unknown(1)
				more(s)
				s.feed(1, message(1, 0))
				s.wants()
				s.feed(2, message(2, 0))
				s.wants("2 as e-2")
			})
		})
	}
}
