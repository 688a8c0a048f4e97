package fallback

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// change adds a filter to the polls, or removes one from them, as the hub does with those of a stream. r is the request
// to do so, and the answer is as the hub's.
func (p *poller) change(r *http.Request, filter string) (*http.Response, error) {
	if r.Method == http.MethodDelete {
		p.mu.Lock()
		p.filters = slices.DeleteFunc(p.filters, func(f string) bool { return f == filter })
		p.mu.Unlock()
		return p.t.base().RoundTrip(r) // the hub ends the poll that waits
	}
	j := &join{filter: filter, answer: make(chan joined), gaveUp: r.Context().Done()}
	p.mu.Lock()
	p.joins = append(p.joins, j)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	select {
	case got := <-j.answer:
		if got.resp != nil {
			got.resp.Request = r
		}
		return got.resp, got.err
	case <-p.done:
		return nil, context.Canceled
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
}

// join adds the filters that wait. The new ones start now, after their retained messages. So the old ones are read up
// to now first: at their position, messages from before the join would lie ahead.
func (p *poller) join() error {
	p.mu.Lock()
	joins := p.joins
	p.joins = nil
	p.mu.Unlock()
	for i, j := range joins {
		err := p.drain()
		if err == nil {
			var resp *http.Response
			resp, err = p.add(j.filter)
			j.reply(resp, err)
			joins[i] = nil
		}
		if err != nil {
			p.mu.Lock()
			p.joins = append(p.joins, slices.DeleteFunc(joins, func(j *join) bool { return j == nil })...) // run answers them
			p.mu.Unlock()
			return err
		}
	}
	return nil
}

// add adds one filter and returns the answer for the request to do so. If the hub has ended the session, the stream ends.
func (p *poller) add(filter string) (*http.Response, error) {
	a, resp, err := p.poll(p.ctx, []string{filter}, url.Values{"last": {"0"}, "retained": {"true"}}, 0)
	if a == nil {
		if err == nil && resp.StatusCode == http.StatusGone {
			return nil, p.refused(resp)
		}
		return resp, err
	}
	// A message that was retained behind the position comes as a new one.
	a.Messages = slices.DeleteFunc(a.Messages, func(raw json.RawMessage) bool { return isBehind(raw, p.at) })
	a.Next = p.at
	if err := p.write(a); err != nil {
		return nil, err
	}
	p.mu.Lock()
	if !slices.Contains(p.filters, filter) {
		p.filters = append(p.filters, filter)
	}
	p.mu.Unlock()
	return p.response(http.StatusNoContent), nil
}

// isBehind reports whether a message's id lies behind a position.
func isBehind(raw json.RawMessage, position string) bool {
	var m struct{ ID string }
	_ = json.Unmarshal(raw, &m) // write reports an error
	return epoch(m.ID) == epoch(position) && seq(m.ID) > seq(position)
}

func epoch(id string) string {
	e, _, _ := strings.Cut(id, "-")
	return e
}

func seq(id string) uint64 {
	_, n, _ := strings.Cut(id, "-")
	s, _ := strconv.ParseUint(n, 10, 64)
	return s
}
