package client

import (
	"context"
	"errors"
	"iter"
)

// Messages joins a group, or what a filter matches, for as long as the loop runs:
//
//	for m, err := range c.Messages(ctx, "foo") { … }
//
// It ends with ctx, or with Close. The error, if there is one, comes last, with no message: the hub
// refused the join, or closed the client for good. While the loop's body is busy no callback of the
// client runs.
func (c *Client) Messages(ctx context.Context, filter string) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		messages := make(chan Message)
		sub, err := c.Join(ctx, filter, func(m Message) {
			select {
			case messages <- m:
			case <-ctx.Done():
			case <-c.life.Done():
			}
		})
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, ErrClosed) {
				yield(Message{}, err)
			}
			return
		}
		defer func() {
			stop() // whoever waits to hand a message over need not any more
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
			defer cancel()
			_ = sub.Leave(bounded) // nobody hears what the hub may go on to send
		}()
		for {
			select {
			case m := <-messages:
				if !yield(m, nil) {
					return
				}
			case <-ctx.Done():
				return
			case <-c.life.Done():
				if why := context.Cause(c.life); !errors.Is(why, ErrClosed) {
					yield(Message{}, why)
				}
				return
			}
		}
	}
}
