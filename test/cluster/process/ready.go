//go:build !windows

package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// patience is how long a process may take to be ready.
const patience = 5 * time.Minute

// Ready returns when a GET of the URL, which the process serves, is answered with 200. It returns an error if the
// process ends before, or takes too long.
func (p *Process) Ready(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := get(ctx, url)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it is not ready: %w", err)
		case <-p.Done():
			return errors.New("it has ended")
		case <-time.After(20 * time.Millisecond): // it can only be asked
		}
	}
}

func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Close = true // a paused process must not keep the connection
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	why, _ := io.ReadAll(res.Body) // only for the error
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status + ": " + strings.TrimSpace(string(why)))
	}
	return nil
}
