package client

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

const (
	// renewPart: the open stream gets a new token when 1/renewPart of the lifetime of the old one is left.
	renewPart = 10

	// renewBefore is the least time before the expiry at which the stream gets a new token. The hub ends streams in the
	// last twentieth of the lifetime, at most 30 s. The rest is time for another attempt.
	renewBefore = 45 * time.Second

	// minRenewWait is the shortest wait between two attempts to renew a token.
	minRenewWait = 100 * time.Millisecond
)

// renewIn returns the wait before a token is renewed that expires after left. A stream may have been opened late in the
// lifetime of its token, whose end is then near.
func renewIn(left time.Duration) time.Duration {
	return max(left/2, min(left-left/renewPart, left-renewBefore))
}

// renew prevents the end of the open stream with its token: before the token expires, it sends the token that
// WithToken's function then returns. If that is the same token, or the call fails, it tries again until the token
// expires. Then the stream ends and resumes with the token of that time. renew returns with ctx or when the token
// does not expire.
func (c *Client) renew(ctx context.Context, left time.Duration) {
	end := time.Now().Add(left)
	wait := renewIn(left)
	for {
		timer := time.NewTimer(max(wait, minRenewWait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		asked := time.Now()
		next, expires, err := c.sendToken(ctx)
		switch {
		case err != nil:
			c.logger.Debug("the token of the stream was not renewed", "error", err)
		case !expires:
			return
		case asked.Add(next).After(end.Add(time.Second)): // a new token; the second allows for rounding by the hub
			end = asked.Add(next)
			wait = renewIn(time.Until(end))
			continue
		}
		wait = time.Until(end) / 2
		if wait <= 0 {
			return
		}
	}
}

// sendToken gives the open stream the current token. It returns how long the token is valid, if it expires.
func (c *Client) sendToken(ctx context.Context) (left time.Duration, expires bool, err error) {
	err = c.try(ctx, &request{
		method: http.MethodPut, path: c.sessionPath("/token"),
		header: func(h http.Header) {
			if seconds, err := strconv.ParseInt(h.Get("Watchbox-Expires-In"), 10, 64); err == nil {
				left, expires = time.Duration(seconds)*time.Second, true
			}
		},
	})
	return left, expires, err
}
