package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/watchbox-go/watchbox/internal/remote"
)

// health checks a hub, for example as the health check of a container.
type health struct {
	URL     hubURL        `arg:"" optional:"" help:"Address of the hub: a URL, HOST:PORT, or unix:/PATH for a Unix socket." default:"http://127.0.0.1:1234" env:"WATCHBOX_URL"`
	Connect socketAddress `help:"Connect to this address, HOST:PORT or unix:/PATH, instead of the URL's. The certificate must still be valid for the name in the URL." placeholder:"ADDR"`
	Live    bool          `help:"Check only that the hub answers (/healthz), not that it is ready for messages (/readyz)."`
	Timeout time.Duration `help:"How long to wait for the answer." default:"5s"`
}

// Run prints the status that the hub reports.
func (h *health) Run() error {
	if h.Timeout <= 0 {
		return usageError{errors.New("--timeout must be above 0")}
	}
	path := "/readyz"
	if h.Live {
		path = "/healthz"
	}
	ctx, cancel := context.WithTimeout(context.Background(), h.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL.base()+path, nil)
	if err != nil {
		return usageError{err}
	}
	client := &http.Client{Transport: cmp.Or(h.Connect, h.URL.socket()).transport()}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	const maxAnswer = 64 << 10 // bytes
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	var answer struct{ Status string }
	if resp.StatusCode == http.StatusOK && json.Unmarshal(body, &answer) == nil && answer.Status != "" {
		fmt.Println(answer.Status)
		return nil
	}
	refusal := remote.NewRefusal(resp.StatusCode, resp.Header, body)
	if refusal.Code != "" {
		return fmt.Errorf("the hub is not ready: %w", refusal)
	}
	return refusal
}
