package main

import (
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
	URL     hubURL        `arg:"" optional:"" help:"Address of the hub." default:"http://127.0.0.1:1234" env:"WATCHBOX_URL"`
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
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, string(h.URL)+path, nil)
	if err != nil {
		return usageError{err}
	}
	resp, err := http.DefaultClient.Do(r)
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
