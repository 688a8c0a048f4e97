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

	"github.com/watchbox-go/watchbox/sse"
)

// Server is the hub that a command talks to.
type Server struct {
	URL       string `help:"Address of the hub." default:"http://127.0.0.1:1234" name:"url"`
	Token     string `help:"Token to present. It shows in the list of processes: prefer WATCHBOX_TOKEN or --token-file." placeholder:"TOKEN"`
	TokenFile string `help:"File with the token to present. It is read for each request, so that it may be renewed." placeholder:"FILE" env:"-"`
}

// token returns the token to present, or "".
func (s *Server) token() (string, error) {
	if s.TokenFile == "" {
		return s.Token, nil
	}
	b, err := os.ReadFile(s.TokenFile)
	if err != nil {
		return "", usageError{fmt.Errorf("token file: %w", err)}
	}
	return strings.TrimSpace(string(b)), nil
}

// authorize adds the token to a request.
func (s *Server) authorize(r *http.Request) error {
	token, err := s.token()
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return err
}

// url returns the URL of a resource. Slashes in the name stay slashes.
func (s *Server) url(resource, name string) string {
	if name == "" {
		return strings.TrimSuffix(s.URL, "/") + resource
	}
	levels := strings.Split(name, "/")
	for i, l := range levels {
		levels[i] = url.PathEscape(l)
	}
	return strings.TrimSuffix(s.URL, "/") + resource + strings.Join(levels, "/")
}

// hubClient asks hubs. It does not follow a redirect that turns a POST into a GET, which would listen to
// the group.
var hubClient = &http.Client{
	Transport: patientTransport(),
	CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if r.Method != via[0].Method || len(via) >= 10 {
			return http.ErrUseLastResponse
		}
		return nil
	},
}

func patientTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = answerTimeout
	return t
}

// do makes a request and returns what the hub answers. An answer that is no success, or not a hub's, is a
// *hubError.
func (s *Server) do(req *http.Request) ([]byte, error) {
	if err := s.authorize(req); err != nil {
		return nil, err
	}
	res, err := hubClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 != 2 || mediaType(res.Header) != "application/json" {
		return nil, refusal(res.StatusCode, res.Header, answer)
	}
	return answer, nil
}

// listen runs a stream until the context is done or the hub refuses it. It goes on with another token if the
// token's file has one by then.
func (s *Server) listen(ctx context.Context, stream *sse.Client) error {
	if _, err := s.token(); err != nil {
		return err
	}
	stream.BeforeAttempt = s.authorize
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
		return refusal(refused.Code, refused.Header, refused.Body)
	}
}

// read reads a JSON object from a URL.
func (s *Server) read(ctx context.Context, url string, to any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return usageError{err}
	}
	body, err := s.do(req)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, to)
}

// hubError is an answer that refuses, or that something between us and the hub has given.
type hubError struct {
	status       int
	code, detail string // of the hub's problem; "" if it is none
}

// refusal returns the error that an answer is.
func refusal(status int, header http.Header, body []byte) *hubError {
	e := &hubError{status: status}
	var p struct{ Code, Detail string }
	if mediaType(header) == "application/problem+json" && json.Unmarshal(body, &p) == nil {
		e.code, e.detail = p.Code, p.Detail
	}
	return e
}

// mediaType returns the type of a body, without parameters.
func mediaType(h http.Header) string {
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return media
}

func (e *hubError) Error() string {
	if e.detail == "" {
		return fmt.Sprintf("the answer is %d %s", e.status, http.StatusText(e.status))
	}
	return fmt.Sprintf("%s (%s)", e.detail, e.code)
}

// final reports whether asking again is useless after an error. Once the hub has answered, an answer that is
// not its own comes from a proxy while the hub is replaced.
func final(err error, met bool) bool {
	e, ok := errors.AsType[*hubError](err)
	_, wrong := errors.AsType[usageError](err)
	switch {
	case !ok:
		return wrong
	case e.status == http.StatusUnauthorized, e.status == http.StatusForbidden:
		return true
	case e.status == http.StatusNotImplemented, e.status == http.StatusInsufficientStorage,
		e.code == "program-failed": // BeforePublish panicked: it would again
	case e.status == http.StatusRequestTimeout, e.status == http.StatusTooEarly, e.status == http.StatusTooManyRequests,
		e.status >= 500:
		return false
	}
	return e.code != "" || !met
}
