package session

import (
	"slices"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/internal/group"
)

// wantNewest compares the hubs with streams, beginning with the one that has the newest, and a part of the document.
func (l *ledger) wantNewest(doc string, hubs ...string) {
	l.t.Helper()
	if got := l.document(); !strings.Contains(got, doc) {
		l.t.Errorf("the document is %s, want %s", got, doc)
	}
	if got := l.ByNewest("u"); !slices.Equal(got, hubs) {
		l.t.Errorf("the newest streams are at %q, want %q", got, hubs)
	}
}

func TestADocumentHasNoNumbersWhileAllStreamsAreAtOneHub(t *testing.T) {
	inALedger(t, func(l *ledger) {
		for range 3 {
			defer l.open("u", "x", 0).close(Closed)
		}
		l.must(l.Join("u", group.Exact("y"), 10))
		l.wantNewest("", here)
		if doc := l.document(); strings.Contains(doc, "newest") {
			t.Errorf("the document is %s", doc)
		}
	})
}

// TestAStreamThatOpensIsTheNewestWhateverIsHeardMeanwhile has another hub store that a stream opens there.
func TestAStreamThatOpensIsTheNewestWhateverIsHeardMeanwhile(t *testing.T) {
	inALedger(t, func(l *ledger) {
		l.store(`{"hub":"there","nodes":{"there":{"filters":["x"]}}}`)
		l.before = func() { l.append(`{"hub":"there","nodes":{"there":{"filters":["x"],"newest":8}}}`, false) }
		s := l.open("u", "x", 0)
		l.wantNewest(`"here":{"filters":["x"],"newest":9}`, here, there)
		s.close(Closed)
		l.wantNewest(`"there":{"filters":["x"],"newest":8}`, there)
	})
}

// TestAStreamKeepsItsNumberIfItIsUnsureWhetherItsOpeningIsStored, since a newer one may open elsewhere.
func TestAStreamKeepsItsNumberIfItIsUnsureWhetherItsOpeningIsStored(t *testing.T) {
	inALedger(t, func(l *ledger) {
		l.store(`{"hub":"there","nodes":{"there":{"filters":["x"]}}}`)
		l.unsure = true
		s := l.open("u", "x", 0)
		l.unsure = false
		l.wantNewest(`"here":{"filters":["x"],"newest":1}`, here, there)
		l.store(`{"hub":"there","nodes":{"here":{"filters":["x"],"newest":1},"there":{"filters":["x"],"newest":2}},"members":[{"filter":"x"}]}`)
		l.must(l.Join("u", group.Exact("y"), 10))
		l.wantNewest(`"here":{"filters":["x","y"],"newest":1}`, there, here)
		s.close(Closed)
	})
}
