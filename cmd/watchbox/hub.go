package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/watchbox-go/watchbox/internal/fallback"
	"github.com/watchbox-go/watchbox/internal/origin"
	"github.com/watchbox-go/watchbox/internal/remote"
	"github.com/watchbox-go/watchbox/sse"
)

// Server is the hub that a command talks to.
type Server struct {
	URL         hubURL `help:"Address of the hub: a URL, HOST:PORT, or unix:/PATH for a Unix socket." default:"http://127.0.0.1:1234" name:"url"`
	Credentials `embed:""`

	client *http.Client // of do; nil before the first request
}

// Credentials are what a command presents to its hub.
type Credentials struct {
	Token     string `help:"Token to present. It is visible in the process list: prefer WATCHBOX_TOKEN or --token-file." placeholder:"TOKEN"`
	TokenFile string `help:"File with the token to present. It is read for each request, so it may be replaced at any time." placeholder:"FILE" env:"-"`
}

// token returns the token to present, or "".
func (c *Credentials) token() (string, error) {
	if c.TokenFile == "" {
		return c.Token, nil
	}
	b, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", usageError{fmt.Errorf("token file: %w", err)}
	}
	return strings.TrimSpace(string(b)), nil
}

// authorize adds the token to a request.
func (c *Credentials) authorize(r *http.Request) error {
	token, err := c.token()
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return err
}

// url returns the URL of a resource. It keeps slashes in the name.
func (s *Server) url(resource, name string) string {
	if name == "" {
		return s.URL.base() + resource
	}
	levels := strings.Split(name, "/")
	for i, l := range levels {
		levels[i] = url.PathEscape(l)
	}
	return s.URL.base() + resource + strings.Join(levels, "/")
}

// newHubClient returns a client for requests to a hub. It does not follow a redirect that turns a POST into a GET,
// which would subscribe to the group, or one that would take the token to another server.
func newHubClient(u hubURL) *http.Client {
	t := u.socket().transport()
	t.ResponseHeaderTimeout = answerTimeout
	return &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		first := via[0]
		if r.Method != first.Method || len(via) >= 10 || first.Header.Get("Authorization") != "" && !origin.Trusts(first.URL, r.URL) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
}

// do makes a request and decodes the JSON of its answer. If the answer is no success, or if valid reports that it does
// not come from a hub, the error is a *remote.Refusal. If the token is refused and the file has another one by then, do
// repeats the request once.
func (s *Server) do(req *http.Request, to any, valid func() bool) error {
	if err := s.authorize(req); err != nil {
		return err
	}
	used := req.Header.Get("Authorization")
	err := s.try(req, to, valid)
	refused, ok := errors.AsType[*remote.Refusal](err)
	if !ok || refused.Status != http.StatusUnauthorized || s.authorize(req) != nil || req.Header.Get("Authorization") == used {
		return err
	}
	if req.GetBody != nil {
		if req.Body, err = req.GetBody(); err != nil {
			return err
		}
	}
	return s.try(req, to, valid)
}

// try makes a request once.
func (s *Server) try(req *http.Request, to any, valid func() bool) error {
	if s.client == nil {
		s.client = newHubClient(s.URL)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // the body was read
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 || remote.MediaType(res.Header) != "application/json" || json.Unmarshal(answer, to) != nil || !valid() {
		return remote.NewRefusal(res.StatusCode, res.Header, answer)
	}
	return nil
}

// listen runs a stream until the context is done or the hub refuses it. It continues if the token file
// has a new token.
func (s *Server) listen(ctx context.Context, stream *sse.Client) error {
	if _, err := s.token(); err != nil {
		return err
	}
	stream.BeforeAttempt = s.authorize
	stream.HTTPClient = &http.Client{Transport: &fallback.Transport{Base: s.URL.socket().transport(), Authorize: s.authorize}}
	for last := ""; ; {
		err := stream.Run(ctx)
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, errDone), errors.Is(cause, context.Canceled):
			return nil
		case cause != nil:
			return cause
		}
		refused, ok := errors.AsType[*sse.StatusError](err)
		switch {
		case !ok:
			return err
		case refused.Code == http.StatusUnauthorized && s.TokenFile != "":
			if token, err := s.token(); err == nil && token != last {
				last = token
				continue
			}
		}
		return remote.NewRefusal(refused.Code, refused.Header, refused.Body)
	}
}

// read reads a JSON object from a URL. valid reports whether it comes from a hub.
func (s *Server) read(ctx context.Context, url string, to any, valid func() bool) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return usageError{err}
	}
	return s.do(req, to, valid)
}

// final reports whether a retry after the error is useless. answered says that the hub has answered before.
func final(err error, answered bool) bool {
	if refused, ok := errors.AsType[*remote.Refusal](err); ok {
		return refused.Final(answered)
	}
	_, wrong := errors.AsType[usageError](err)
	return wrong
}
