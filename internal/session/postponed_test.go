package session

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unique"

	"github.com/watchbox-go/watchbox/internal/access"
)

// openAt adds a stream with the filter x from an address.
func (l *ledger) openAt(address string) *Attachment {
	s := &stream{attached: make(chan struct{})}
	defer close(s.attached)
	client := Client{Address: address, Agent: unique.Make(Agent{})}
	var err error
	s.Attachment, err = l.Attach("u", &Opening{Client: client, Grant: access.Everything, Filters: parse("x"), Stream: s})
	l.must(err)
	return s.Attachment
}

// TestWhoOpenedAStreamIsStoredWhenTheLogIsBack has a session return while the log is away.
func TestWhoOpenedAStreamIsStoredWhenTheLogIsBack(t *testing.T) {
	const elsewhere = `{"hub":"there","address":"third","nodes":{"there":{}}}`
	for name, c := range map[string]struct {
		away func(l *ledger)
		want string
	}{
		"it stays":                  {func(l *ledger) { l.openAt("second") }, "second"},
		"it returns twice":          {func(l *ledger) { l.openAt("other"); l.openAt("second") }, "second"},
		"it is lost again":          {func(l *ledger) { l.openAt("second").Detach(Closed, 0) }, "second"},
		"it goes on at another hub": {func(l *ledger) { l.openAt("second").Detach(Closed, 0); l.store(elsewhere) }, "third"},
		"another hub changes the document": {func(l *ledger) {
			l.openAt("second")
			l.store(strings.Replace(l.document(), `"hub":"here"`, `"hub":"there"`, 1))
		}, "second"},
	} {
		for _, lost := range []bool{true, false} { // whether it is known to be lost
			t.Run(fmt.Sprintf("%s, lost %v", name, lost), func(t *testing.T) {
				inALedger(t, func(l *ledger) {
					first := l.openAt("first")
					l.setAway(!lost)
					first.Detach(Closed, 0)
					l.setAway(true)
					c.away(l)
					l.setAway(false)
					time.Sleep(timeout / 2)
					if doc := l.document(); !strings.Contains(doc, `"address":"`+c.want+`"`) {
						t.Errorf("the document is %s", doc)
					}
					if i, err := l.Get("u"); err != nil || i.Client.Address != c.want {
						t.Errorf("the session is %+v, %v", i, err)
					}
				})
			})
		}
	}
}

// TestASessionIsAsOldAsItsFirstStream has a session begin while the log is away.
func TestASessionIsAsOldAsItsFirstStream(t *testing.T) {
	inALedger(t, func(l *ledger) {
		l.setAway(true)
		began := time.Now()
		l.openAt("first")
		time.Sleep(timeout)
		l.openAt("second")
		l.setAway(false)
		time.Sleep(timeout)
		if i, err := l.Get("u"); err != nil || !i.Since.Equal(began) {
			t.Errorf("the session is %+v, %v; it began at %v", i, err, began)
		}
	})
}
