package jetstream

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// TestWhatAServerSaysThatDoesNotLeadIsNoAnswer: while the stream has no leader, a server answers that may lack messages, and so does a leader
// that is cut off from the others, when they have elected another one. That the messages were removed, or that the stream is another one,
// would be a wrong conclusion.
func TestWhatAServerSaysThatDoesNotLeadIsNoAnswer(t *testing.T) {
	for name, ask := range map[string]func(ctx context.Context, l *Log) error{
		"whether it has a message":    func(ctx context.Context, l *Log) error { return l.leaderReached(ctx, 11) },
		"whether messages are gone":   func(ctx context.Context, l *Log) error { return (&janitor{l: l}).watch(ctx) },
		"up to where hubs must read":  func(ctx context.Context, l *Log) error { return l.readToEnd(ctx) },
		"whether it is the same":      func(ctx context.Context, l *Log) error { _, err := l.tail.attach(ctx, time.Minute); return err },
		"where the stream ends":       func(ctx context.Context, l *Log) error { _, err := l.leaderEnd(ctx); return err },
		"what somebody has purged of": func(ctx context.Context, l *Log) error { _, err := l.firstReached(ctx, 5); return err },
	} {
		for _, want := range []error{errNoLeader, errMinority} {
			t.Run(name+": "+want.Error(), func(t *testing.T) {
				l := asks(t, func(time.Duration) (store.Seq, error) { return 10, want })
				defer l.unblock()
				if err := ask(t.Context(), l); !errors.Is(err, want) || !passing(err) {
					t.Errorf("%v", err)
				}
			})
		}
	}
}

// TestAnotherStreamDoesNotSayWhatIsMissing: a stream that was made anew lacks most notes. That they were removed would be a wrong conclusion: the
// hubs store them again.
func TestAnotherStreamDoesNotSayWhatIsMissing(t *testing.T) {
	l := asks(t, func(time.Duration) (store.Seq, error) { return 10, nil })
	defer l.unblock()
	l.stream.(*leader).created = time.Now()
	if _, err := l.firstReached(t.Context(), 5); !errors.Is(err, errReplaced) || !passing(err) {
		t.Errorf("a note: %v", err)
	}
	if _, err := (&janitor{l: l}).left(t.Context(), ""); !errors.Is(err, errReplaced) {
		t.Errorf("messages: %v", err)
	}
}
