//go:build !windows

package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/sse"
)

// TestTheClusterDoesWhatItSays publishes at one hub and reads at another, at the URLs that the command prints.
func TestTheClusterDoesWhatItSays(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out := &output{printed: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, out) }()
	select {
	case <-out.printed:
	case err := <-ended:
		t.Fatalf("%v: %s", err, out)
	}
	commands := regexp.MustCompile(`(?m)^  h\d  (http://\S+)`).FindAllStringSubmatch(out.String(), -1)
	if len(commands) != 3 {
		t.Fatal(out)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, commands[0][1]+"/v1/groups/demo", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	posted, err := http.Post(commands[1][1]+"/v1/groups/demo", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(posted.Body)
	_ = posted.Body.Close()
	if posted.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s", posted.Status, answer)
	}
	for e, err := range sse.NewReader(res.Body).All() {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == "message" {
			if !bytes.Contains(e.Data, []byte(`"msg":"hello"`)) {
				t.Errorf("the subscriber got %s", e.Data)
			}
			break
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// output collects what the command prints. printed is closed when that was all.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	printed chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if bytes.Contains(p, []byte("Ctrl-C")) {
		defer close(o.printed)
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
