package client

import (
	"context"
	"net/http"
	"time"
)

// sendHeartbeats sends heartbeats while the stream is open. It ends with the stream.
func (c *Client) sendHeartbeats(s *stream) {
	tick := time.NewTicker(c.heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		if c.State() != StateOpen {
			continue
		}
		ctx, cancel := context.WithTimeout(s.ctx, c.heartbeat) // until the next heartbeat
		if err := c.try(ctx, &request{method: http.MethodPost, path: c.sessionPath("/heartbeat")}); err != nil {
			c.logger.Debug("heartbeat failed", "error", err)
		}
		cancel()
	}
}
