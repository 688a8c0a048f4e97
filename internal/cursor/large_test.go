package cursor_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/store"
)

// strict is a noter that refuses one note.
type strict struct {
	noter
	refuses string // key
	refused int    // how often it was to be written alone
}

func (l *strict) AppendNoted(ctx context.Context, list []store.Entry, notes ...store.Note) (store.ID, error) {
	for _, n := range notes {
		if n.Key == l.refuses && n.Value != nil {
			if len(notes) == 1 {
				l.refused++
			}
			return store.ID{}, store.ErrTooLarge
		}
	}
	return l.noter.AppendNoted(ctx, list, notes...)
}

// TestAPositionThatIsTooLargeDoesNotHoldUpTheOthers has one of ten positions refused by the log, at each place among them.
func TestAPositionThatIsTooLargeDoesNotHoldUpTheOthers(t *testing.T) {
	for refused := range 10 {
		synctest.Test(t, func(t *testing.T) {
			l := &strict{noter: noter{notes: map[string][]byte{}}, refuses: fmt.Sprint(cursor.Prefix, "k", refused)}
			failed := 0
			s := cursor.New(cursor.Options{Log: l, Failed: func(error) { failed++ }})
			for k := range 10 {
				p := position(fmt.Sprint("k", k), 1)
				if _, _, err := s.Claim(t.Context(), p.Key); err != nil {
					t.Fatal(err)
				}
				if err := s.Save(p); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if len(l.notes) != 9 || failed != 1 || l.refused > 1 {
				t.Errorf("position %d is too large: %d others are written, and %d errors are reported of %d", refused, len(l.notes), failed, l.refused)
			}
			key := fmt.Sprint("k", refused)
			if err := s.Flush(t.Context(), key); !errors.Is(err, store.ErrTooLarge) {
				t.Errorf("writing it: %v", err)
			}
			if p, ok := s.Get(key); !ok || p.Done != position(key, 1).Done {
				t.Errorf("the hub has the position %+v", p)
			}
			l.refuses = ""
			if err := s.Save(position(key, 2)); err != nil {
				t.Fatal(err)
			}
			if err := s.Flush(t.Context(), key); err != nil || len(l.notes) != 10 {
				t.Errorf("when it has changed: %v, %d are written", err, len(l.notes))
			}
			s.Close()
		})
	}
}
