//go:build !windows

package logs

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// logText is what a log has logged.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (b *logText) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// has reports whether it contains s.
func (b *logText) has(s string) bool {
	return strings.Contains(b.String(), s)
}

func (b *logText) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logText) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// TestSettingsThatDoNotFitAreLogged opens logs of one stream: two with the same limits, and then one with others, whose
// messages are too large for the server.
func TestSettingsThatDoNotFitAreLogged(t *testing.T) {
	url, stream := servers.ForTest(t, 1).URL(), newStream()
	opened := func(max int64, message int) *logText {
		b := &logText{}
		open(t, jetstream.Options{
			URL: url, Stream: stream, Server: store.Policy{MaxMessages: max}, MaxMessage: message, Logger: b.logger(),
		})
		return b
	}
	a, b := opened(5, 1<<20), opened(5, 1<<20)
	c := opened(6, 8<<20)
	for _, l := range []*logText{a, b, c} {
		eventually(t, "the other limits are logged", func() bool { return l.has(`MaxMessages:`) })
	}
	if want := `MaxMessages:6`; !a.has(want) || !b.has(want) {
		t.Error("the warning does not say the limits of the other hub")
	}
	const payload = "max_payload"
	if a.has(payload) || !c.has(payload) {
		t.Errorf("messages of 1 MiB are warned of: %v, of 8 MiB: %v", a.has(payload), c.has(payload))
	}
}
