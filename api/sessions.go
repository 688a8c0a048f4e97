package api

import (
	"fmt"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/session"
)

// sessionUID returns the uid in the path.
func sessionUID(r *http.Request) (string, error) {
	s := chi.URLParam(r, "uid")
	u, err := uuid.Parse(s)
	if err != nil || u.String() != s {
		return "", &problem{status: http.StatusNotFound, code: "session-unknown",
			detail: fmt.Sprintf("%.64q is not the uid of a session, such as 5fb22bbe-3ba4-8928-b938-4f1a2661e1dd", s)}
	}
	return s, nil
}

// ownSession returns the uid in the path, if the request has the secret of that session.
func (a *api) ownSession(r *http.Request, g *access.Grant) (string, error) {
	uid, err := sessionUID(r)
	if err != nil {
		return "", err
	}
	q, err := parameters(r, "session")
	if err != nil {
		return "", err
	}
	secret, err := q.secret(r)
	switch {
	case err != nil:
		return "", err
	case secret == "":
		return "", &problem{status: http.StatusUnauthorized, code: "session-required", parameter: sessionHeader,
			detail: "only the session itself may do this: send its secret in " + sessionHeader}
	case session.UID(secret) != uid:
		return "", &problem{status: http.StatusForbidden, code: "session-mismatch", parameter: sessionHeader,
			detail: "this is the secret of another session"}
	}
	if err := a.ownRequest(r.Context(), uid, g); err != nil { // authorized reads the secret only from the header
		return "", err
	}
	return uid, nil
}

// sessionJSON is a session in an answer.
type sessionJSON struct {
	UID       string     `json:"uid"`
	Subject   string     `json:"subject,omitempty"`
	State     string     `json:"state"` // here, lost or away
	Since     time.Time  `json:"since"`
	Lost      *time.Time `json:"lost,omitempty"`
	Address   string     `json:"address"`
	UserAgent string     `json:"user_agent"`
	Protocol  string     `json:"protocol,omitempty"`
	ClientID  string     `json:"client_id,omitempty"`
	Filters   []string   `json:"filters"`
	Streams   int        `json:"streams"`
	Lag       amount     `json:"lag"`
	Sent      amount     `json:"sent"`
	Hubs      []string   `json:"hubs,omitempty"`        // where its streams are, if several hubs share the log
	Endings   []ending   `json:"disconnects,omitempty"` // the newest first

	// Of a session that is away.
	Position string     `json:"position,omitempty"`
	Unacked  *int       `json:"unacknowledged,omitempty"`
	Expires  *time.Time `json:"expires,omitempty"`
}

// awayToJSON returns a session that is away. Nobody knows when it began.
func awayToJSON(s *hub.Away) sessionJSON {
	return sessionJSON{
		UID: s.UID, Subject: s.Subject, State: stateAway, Since: shown(s.Since), Lost: lostTime(s.Since), Protocol: "mqtt", ClientID: s.ClientID,
		Filters: append([]string{}, s.Filters...), Lag: amount(s.Lag), Position: s.Position.String(), Unacked: &s.Unacked, Expires: lostTime(s.Expires),
	}
}

// ending is the end of a stream.
type ending struct {
	Time   time.Time      `json:"time"`
	Reason session.Reason `json:"reason"`
}

type amount struct {
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
}

func (a *api) sessionToJSON(s *hub.Session) sessionJSON {
	agent := s.Client.Agent.Value()
	out := sessionJSON{
		UID: s.UID, Subject: s.Subject, State: state(s.Lost), Since: shown(s.Since), Lost: lostTime(s.Lost),
		Address: s.Client.Address, UserAgent: agent.UserAgent, Protocol: agent.Protocol, ClientID: s.Client.ClientID(), Filters: texts(s.Filters),
		Streams: s.Open, Lag: amount(s.Lag), Sent: amount(s.Sent),
		Hubs: s.HubNames(a.hub),
	}
	for _, e := range s.Endings {
		out.Endings = append(out.Endings, ending{shown(e.Time), e.Reason})
	}
	return out
}

func state(lost time.Time) string {
	if lost.IsZero() {
		return "here"
	}
	return "lost"
}

// shown returns a time with the precision of times in messages.
func shown(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

func lostTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = shown(t)
	return &t
}

func texts(filters []group.Filter) []string {
	out := make([]string, len(filters))
	for i, f := range filters {
		out[i] = f.String()
	}
	return out
}

// sessions lists sessions, connected or lost.
func (a *api) sessions(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	q, err := parameters(r, "state", "sort", "limit", "after")
	if err != nil {
		return err
	}
	if _, ok := q.has("state"); ok {
		return a.awaySessions(w, r, q)
	}
	l, err := sessionListing(q)
	if err != nil {
		return err
	}
	return a.writeList(w, r, `{"sessions":[`, func(add func(any) error) (string, error) {
		return a.hub.Sessions(l, func(s *hub.Session) error { return add(a.sessionToJSON(s)) })
	})
}

// stateAway is the state of a session that is gone, but whose position is kept.
const stateAway = "away"

// awaySessions lists the sessions that are away, in the order of their uids.
func (a *api) awaySessions(w http.ResponseWriter, r *http.Request, q query) error {
	if _, err := choice(q, "state", []string{stateAway}); err != nil {
		return err
	}
	if _, ok := q.has("sort"); ok {
		return badParameter("sort", "sessions that are away are in the order of their uids: leave it out")
	}
	limit, after, err := q.page(true)
	if err != nil {
		return err
	}
	return a.writeList(w, r, `{"sessions":[`, func(add func(any) error) (string, error) {
		return a.hub.AwaySessions(after, limit, func(s *hub.Away) error { return add(awayToJSON(s)) })
	})
}

// sessionListing returns the list that a request asks for.
func sessionListing(q query) (*hub.SessionListing, error) {
	var err error
	l := &hub.SessionListing{}
	if l.Sort, err = choice(q, "sort", hub.SessionOrders); err != nil {
		return nil, err
	}
	if l.Limit, l.After, err = q.page(l.Sort != hub.SortSince); err != nil {
		return nil, err
	}
	return l, l.Check()
}

// session answers with one session.
func (a *api) session(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	uid, err := sessionUID(r)
	if err != nil {
		return err
	}
	if _, err := parameters(r); err != nil {
		return err
	}
	s, err := a.hub.Session(uid)
	if err == nil {
		return writeValue(w, a.sessionToJSON(&s))
	}
	away, unknown := a.hub.AwaySession(uid)
	if unknown != nil {
		return err
	}
	return writeValue(w, awayToJSON(&away))
}

// endSession ends a session. Without the session's own secret, it is a kick.
func (a *api) endSession(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	uid, err := sessionUID(r)
	if err != nil {
		return err
	}
	q, err := parameters(r, "session")
	if err != nil {
		return err
	}
	secret, err := q.secret(r)
	if err != nil {
		return err
	}
	why := session.Kicked
	if secret != "" && session.UID(secret) == uid {
		why, err = session.Ended, a.ownRequest(r.Context(), uid, g)
	} else {
		err = g.CheckAdmin()
	}
	if err != nil {
		return err
	}
	if err := a.hub.EndSession(uid, why); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// sendToSession publishes a message to one session.
func (a *api) sendToSession(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	uid, err := sessionUID(r)
	if err != nil {
		return err
	}
	return a.accept(w, r, g, []string{"event", "ttl"}, bodyKind, func(p *hub.Publication) error {
		receipt, err := a.hub.Send(r.Context(), uid, p)
		if err != nil {
			return err
		}
		return writeReceipt(w, &receipt, p.Kind)
	})
}

// sendToServer passes a message to the embedding program.
func (a *api) sendToServer(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	return a.accept(w, r, g, []string{"event"}, bodyKind, func(p *hub.Publication) error {
		receipt, err := a.hub.SendToServer(r.Context(), p)
		if err != nil {
			return err
		}
		markReplayed(w, &receipt)
		w.WriteHeader(http.StatusAccepted)
		return nil
	})
}

// heartbeat records a sign of life.
func (a *api) heartbeat(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	uid, err := a.ownSession(r, g)
	if err != nil {
		return err
	}
	if err := a.hub.SignOfLife(uid, g); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// joinGroup adds a filter to the session's newest stream.
func (a *api) joinGroup(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	return a.change(w, r, g, func(uid string, f group.Filter) error { return a.hub.JoinGroup(g, uid, f) })
}

// leaveGroup removes a filter from the session's streams.
func (a *api) leaveGroup(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	return a.change(w, r, g, a.hub.LeaveGroup)
}

func (a *api) change(w http.ResponseWriter, r *http.Request, g *access.Grant, change func(uid string, f group.Filter) error) error {
	uid, err := a.ownSession(r, g)
	if err != nil {
		return err
	}
	f, err := pathFilter(r)
	if err != nil {
		return err
	}
	if err := change(uid, f); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// setWill replaces the session's last will.
func (a *api) setWill(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	uid, err := a.ownSession(r, g)
	if err != nil {
		return err
	}
	if err := noMetadata(r); err != nil {
		return err
	}
	var in hub.WillObject
	err = a.readObject(w, r, shape{"a will", 2 * hub.MaxWill,
		`a will is an object such as {"group":"foo","msg":…}, with event, ttl, retain, meta, encoding and delay ("5s") if you need them`}, &in)
	if err != nil {
		return err
	}
	d, delay, err := in.Will(uid)
	if err != nil {
		return err
	}
	if err := a.hub.SetWill(r.Context(), g, uid, &d, delay); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// clearWill deletes the session's last will.
func (a *api) clearWill(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	uid, err := a.ownSession(r, g)
	if err != nil {
		return err
	}
	if err := a.hub.ClearWill(uid); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
