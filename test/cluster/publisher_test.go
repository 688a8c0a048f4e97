//go:build !windows

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/test/cluster/hubs"
	"github.com/watchbox-go/watchbox/test/cluster/judge"
)

// publisher posts messages at any hub. Most posts have an idempotency key and are repeated until they are stored, some of
// these once more.
type publisher struct {
	name   string
	groups []string
	hubs   []*hubs.Hub
	size   int // bytes of a message's body, at least
	rand   *rand.Rand
	posts  []judge.Post
	client *http.Client
}

const answerTime = time.Minute // a hub that is not paused answers within it

// post publishes once. Its error says why a post that should be stored was not.
func (p *publisher) post(n int) error {
	messages := p.messages(n)
	if p.rand.IntN(5) == 0 {
		return p.attempt("", messages).failure()
	}
	key := fmt.Sprintf("%s-%d", p.name, n)
	if err := p.store(key, messages); err != nil {
		return err
	}
	if p.rand.IntN(4) == 0 {
		return p.attempt(key, messages).failure()
	}
	return nil
}

// store publishes messages at any hub until they are stored.
func (p *publisher) store(key string, messages []judge.Message) error {
	for late := time.Now().Add(patience); ; {
		a := p.attempt(key, messages)
		if a.Outcome == judge.Stored {
			return nil
		}
		if err := a.failure(); err != nil {
			return err
		}
		if time.Now().After(late) {
			return fmt.Errorf("a post with a key was not stored: %s", a.why)
		}
		<-time.After(retry)
	}
}

// messages are the n-th to publish.
func (p *publisher) messages(n int) []judge.Message {
	group := p.groups[p.rand.IntN(len(p.groups))]
	all := make([]judge.Message, max(1, p.rand.IntN(6)-2)) // mostly 1
	for i := range all {
		body := fmt.Sprintf("%s-%d-%d", p.name, n, i)
		all[i] = judge.Message{Group: group, Body: body + strings.Repeat(".", max(0, p.size-len(body)))}
	}
	if p.rand.IntN(2) == 0 && len(all) > 1 {
		for i := range all {
			all[i].Group = p.groups[p.rand.IntN(len(p.groups))]
		}
	}
	return all
}

type attempt struct {
	judge.Post
	why string
}

func (a attempt) failure() error {
	if a.Outcome == judge.Refused {
		return fmt.Errorf("%s refused a post: %s", a.Hub, a.why)
	}
	return nil
}

// attempt posts messages at one hub, and records it.
func (p *publisher) attempt(key string, messages []judge.Message) attempt {
	h := p.hubs[p.rand.IntN(len(p.hubs))]
	a := attempt{Post: judge.Post{Hub: h.Name, Key: key, Messages: messages, Start: time.Now()}}
	status, answer, err := send(p.client, request(h.URL, key, messages))
	a.End = time.Now()
	a.why = fmt.Sprint(status, " ", answer, err)
	switch {
	case status == http.StatusCreated:
		var ids struct{ ID, First string }
		if err := json.Unmarshal([]byte(answer), &ids); err != nil {
			panic(err)
		}
		a.Outcome, a.Last = judge.Stored, judge.ParseID(ids.ID)
		if a.First = a.Last; ids.First != "" {
			a.First = judge.ParseID(ids.First)
		}
	case status >= 400 && status < 500:
		a.Outcome = judge.Refused
	}
	p.posts = append(p.posts, a.Post)
	return a
}

// request is a post of one message, of lines for one group, or of a batch over groups.
func request(hub, key string, messages []judge.Message) *http.Request {
	one := true
	for _, m := range messages {
		one = one && m.Group == messages[0].Group
	}
	path, kind, body := "/v1/groups/"+messages[0].Group, "text/plain", messages[0].Body
	if len(messages) > 1 {
		kind, body = "application/x-ndjson", ""
	}
	for _, m := range messages {
		switch {
		case !one:
			path = "/v1/messages"
			body += fmt.Sprintf(`{"group":%q,"msg":%q}`+"\n", m.Group, m.Body)
		case len(messages) > 1:
			body += fmt.Sprintf("%q\n", m.Body)
		}
	}
	req, err := http.NewRequest(http.MethodPost, hub+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", kind)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	return req
}

// send sends a request. The status is 0 if there is no answer.
func send(client *http.Client, req *http.Request) (status int, answer string, err error) {
	ctx, cancel := context.WithTimeout(req.Context(), answerTime)
	defer cancel()
	res, err := client.Do(req.WithContext(ctx))
	if err != nil {
		return 0, "", err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		return 0, "", err
	}
	return res.StatusCode, string(body), nil
}

// call sends a request to a hub that is expected to succeed.
func call(client *http.Client, method string, h *hubs.Hub, path, secret, body string) (string, error) {
	req, err := http.NewRequest(method, h.URL+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	if secret != "" {
		req.Header.Set("Watchbox-Session", secret)
	}
	status, answer, err := send(client, req)
	if err != nil {
		return "", err
	}
	if status >= 300 {
		return "", fmt.Errorf("%s %s at %s: %d %s", method, path, h.Name, status, answer)
	}
	return answer, nil
}
