package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/client"
)

// late is a network through which only polls pass, and on which other answers arrive when the client has just given up. It
// counts the answers whose bodies are open.
type late struct {
	open   atomic.Int32
	gaveUp chan struct{} // closed when the join of the group refused has been given up
}

func (l *late) RoundTrip(r *http.Request) (*http.Response, error) {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodDelete:
		return l.answer(http.StatusNoContent, "", ""), nil
	case q.Get("group") == "refused":
		<-l.gaveUp
		return l.answer(http.StatusForbidden, "application/problem+json", `{"status":403,"code":"forbidden"}`), nil
	case isHistory(r) && q.Get("wait") == "0s":
		return l.answer(http.StatusOK, "application/json", `{"messages":[],"next":"x-1","uid":"u"}`), nil
	}
	<-r.Context().Done()
	return l.answer(http.StatusBadGateway, "text/html", "<p>no hub</p>"), nil
}

func (l *late) answer(status int, mediaType, body string) *http.Response {
	l.open.Add(1)
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {mediaType}}, Body: &lateBody{Reader: strings.NewReader(body), network: l},
	}
}

type lateBody struct {
	io.Reader
	network *late
	closed  atomic.Bool
}

func (b *lateBody) Close() error {
	if b.closed.CompareAndSwap(false, true) {
		b.network.open.Add(-1)
	}
	return nil
}

// TestAnswersThatComeTooLateAreClosed: a connection whose answer is not closed is never used again.
func TestAnswersThatComeTooLateAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &late{gaveUp: make(chan struct{})}
		c, err := client.New("http://late", client.WithHTTPClient(&http.Client{Transport: network}))
		if err != nil {
			t.Fatal(err)
		}
		closed := func(what string) {
			t.Helper()
			synctest.Wait()
			if n := network.open.Load(); n != 0 {
				t.Errorf("%s: %d answers are open", what, n)
			}
		}
		if _, err := c.Join(t.Context(), "a", ignore); err != nil {
			t.Fatal(err)
		}
		closed("streams that were given up for a poll")
		if _, err := c.Join(t.Context(), "b", ignore); err != nil {
			t.Fatal(err)
		}
		closed("a poll that ended for a join")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // by synctest's clock
		defer cancel()
		if _, err := c.Join(ctx, "refused", ignore); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the join that was given up: %v", err)
		}
		close(network.gaveUp)
		closed("a join that was given up")
		_ = c.Close()
		closed("a poll that ended with the client")
	})
}
