package client

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// renewPart: the open stream gets a new token when 1/renewPart of the lifetime of the old one is left. The hub ends
// streams only in the last twentieth.
const renewPart = 10

// minRenewWait is the shortest wait between two attempts to renew a token.
const minRenewWait = 100 * time.Millisecond

// renew prevents the end of the open stream with its token: before the token expires, it sends the token that
// WithToken's function then returns. If that is the same token, or the call fails, it tries again until the token
// expires. Then the stream ends and resumes with the token of that time. renew returns with ctx or when the token
// does not expire.
func (c *Client) renew(ctx context.Context, left time.Duration) {
	end := time.Now().Add(left)
	wait := left - left/renewPart
	for {
		timer := time.NewTimer(max(wait, minRenewWait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		next, expires, err := c.sendToken(ctx)
		switch {
		case err != nil:
			c.logger.Debug("the token of the stream was not renewed", "error", err)
		case !expires:
			return
		case time.Now().Add(next).After(end.Add(time.Second)): // a new token; the second allows for rounding by the hub
			end = time.Now().Add(next)
			wait = next - next/renewPart
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
