package memory

import (
	"context"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// TestCloseEndsCallsThatReleaseTheLock closes the log between two holds of its lock. The memory of the messages
// is unmapped by then.
func TestCloseEndsCallsThatReleaseTheLock(t *testing.T) {
	l := New(Options{})
	m := store.Message{Group: "a", Time: time.Now(), Msg: []byte(`1`)}
	if _, err := l.Append(context.Background(), []store.Entry{m.Entry(nil)}); err != nil {
		t.Fatal(err)
	}
	r := l.rings["a"]
	filters := group.Set{group.Exact("a")}
	find := &backscan{l: l, filters: filters, rings: []*ring{r}, merges: true, below: noSeq, yield: func(store.Seq) bool { return true }}
	reader := &reader{query: store.Query{Select: filters}}
	reader.surveyed, reader.rings = true, []*ring{r}
	r.policy.MaxMessages = 1
	r.messages = 2 // one too many
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if find.hold() || l.enforceOnce(r) {
		t.Error("a call continues in a closed log")
	}
	if _, err := l.read(reader, &store.Batch{}); err != store.ErrClosed {
		t.Errorf("read: %v", err)
	}
	l.survey(reader)
	l.advance()
}
