package client

import (
	"context"
	"errors"
	"iter"
)

// Messages joins a filter for as long as the loop runs:
//
//	for m, err := range c.Messages(ctx, "foo") { … }
//
// The loop ends with ctx or with Close. If the hub refuses the join or the client, the
// last iteration has the error and no message. No callback of the client runs while the body of the loop runs.
func (c *Client) Messages(ctx context.Context, filter string) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		messages := make(chan Message)
		sub, err := c.Join(ctx, filter, func(m Message) {
			select {
			case messages <- m:
			case <-ctx.Done():
			case <-c.lifetime.Done():
			}
		})
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, ErrClosed) {
				yield(Message{}, err)
			}
			return
		}
		defer func() {
			stop() // releases a callback that waits to pass on a message
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
			defer cancel()
			_ = sub.Leave(bounded) // after an error the hub may continue to send, which is harmless
		}()
		for {
			select {
			case m := <-messages:
				if !yield(m, nil) {
					return
				}
			case <-ctx.Done():
				return
			case <-c.lifetime.Done():
				if why := context.Cause(c.lifetime); !errors.Is(why, ErrClosed) {
					yield(Message{}, why)
				}
				return
			}
		}
	}
}
