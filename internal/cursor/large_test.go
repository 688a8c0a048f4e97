package cursor_test

import (
	"context"
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
}

func (l *strict) AppendNoted(ctx context.Context, list []store.Entry, notes ...store.Note) (store.ID, error) {
	for _, n := range notes {
		if n.Key == l.refuses {
			return store.ID{}, store.ErrTooLarge
		}
	}
	return l.noter.AppendNoted(ctx, list, notes...)
}

// TestAPositionThatIsTooLargeDoesNotHoldUpTheOthers has one of ten positions refused by the log, at each place among them.
func TestAPositionThatIsTooLargeDoesNotHoldUpTheOthers(t *testing.T) {
	for refused := range 10 {
		synctest.Test(t, func(t *testing.T) {
			l := &strict{noter{notes: map[string][]byte{}}, fmt.Sprint(cursor.Prefix, "k", refused)}
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
			if len(l.notes) != 9 || failed != 1 {
				t.Errorf("position %d is too large: %d others are written, and %d errors are reported", refused, len(l.notes), failed)
			}
			s.Close()
		})
	}
}
