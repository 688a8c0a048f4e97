package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/watchbox-go/watchbox/internal/duration"
	"github.com/watchbox-go/watchbox/internal/hub"
)

// waits are the limits of wait. Longer ones than a few minutes would be cut by proxies.
var waits = duration.Range{Most: 5 * time.Minute}

// poll answers a long poll: with the messages of a subscription as soon as there are any, or with none when the wait
// is over. A HEAD does not wait.
func (a *api) poll(w http.ResponseWriter, r *http.Request, q query, s *hub.Subscription, limit int) error {
	wait, err := q.duration("wait", waits)
	if err != nil {
		return err
	}
	if s.Retained, err = q.flag("retained", false); err != nil {
		return err
	}
	echo, err := q.flag("echo", true)
	if err != nil {
		return err
	}
	s.NoEcho = !echo
	if s.Secret, err = q.secret(r); err != nil {
		return err
	}
	s.Address, s.Remote, s.UserAgent, s.Protocol = host(r.RemoteAddr), r.RemoteAddr, r.UserAgent(), protocol(r)
	if _, err := messagesMedia(r, "history"); err != nil { // before the wait
		return err
	}
	if r.Method == http.MethodHead {
		if err := a.hub.Check(s); err != nil {
			return err
		}
		return a.writeMessages(w, r, "history", nil)
	}
	p, err := a.hub.Poll(r.Context(), s, wait)
	if errors.Is(err, hub.ErrClosed) { // the client is expected back as soon as one whose stream ends
		return &problem{status: http.StatusServiceUnavailable, code: "shutting-down", detail: err.Error(), retry: true, after: a.hub.Options().Retry}
	}
	if err != nil {
		return err
	}
	defer p.Close()
	return a.writeMessages(w, r, "history", func(l lister) error {
		next, err := p.Read(r.Context(), limit, answerTo(l))
		if err != nil {
			return err
		}
		return l.endPoll(next, p.UID())
	})
}
