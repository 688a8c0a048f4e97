package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"net/http"
	"net/url"
	"strconv"
)

// retainedPage is the number of retained messages in one request.
const retainedPage = 100

// Retained returns the retained messages of a group, or of all groups that a filter matches, oldest
// first. It needs no stream. It requests a hundred messages at a time while the loop runs, so there may be many.
// An error ends the loop: an *Error if the hub refuses the request, or the error of ctx.
func (c *Client) Retained(ctx context.Context, filter string) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		after := ""
		for {
			page, err := c.retained(ctx, filter, after)
			for _, raw := range page.Messages {
				var m Message
				if _, m, err = parseMessage(raw); err != nil {
					err = fmt.Errorf("watchbox: a retained message: %w", err)
					break
				}
				if !yield(m, nil) {
					return
				}
			}
			if err != nil {
				yield(Message{}, err)
				return
			}
			if after = page.Next; after == "" {
				return
			}
		}
	}
}

type retainedAnswer struct {
	Messages []json.RawMessage
	Next     string // the id after which to continue; "" at the end
}

func (c *Client) retained(ctx context.Context, filter, after string) (page retainedAnswer, err error) {
	q := url.Values{"limit": {strconv.Itoa(retainedPage)}}
	if after != "" {
		q.Set("since", after)
	}
	err = c.call(ctx, &request{
		method: http.MethodGet, path: "/v1/retained/" + escape(filter), query: q, largest: math.MaxInt64,
		take: func(answer []byte) bool {
			page = retainedAnswer{}
			return json.Unmarshal(answer, &page) == nil && page.Messages != nil
		},
	})
	if err != nil {
		return retainedAnswer{}, err
	}
	return page, nil
}
