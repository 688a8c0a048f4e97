package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
)

// explainHeader has a token to explain.
const explainHeader = "Watchbox-Explain"

// explanation says whether a grant allows an action.
type explanation struct {
	Allowed   bool          `json:"allowed"`
	Action    access.Action `json:"action"`
	Group     string        `json:"group,omitempty"`
	Filter    string        `json:"filter,omitempty"`
	Reason    string        `json:"reason"`
	Rule      string        `json:"rule,omitempty"`
	Code      string        `json:"code,omitempty"` // of the problem that a request would get
	Subject   string        `json:"subject,omitempty"`
	Anonymous bool          `json:"anonymous,omitempty"`
	Expires   *time.Time    `json:"expires,omitempty"`
	Subscribe []string      `json:"subscribe"`
	Publish   []string      `json:"publish"`
	Admin     bool          `json:"admin"`
}

// explain says whether a grant allows an action, and by which rule.
func (a *api) explain(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	q, err := parameters(r, "action", "filter", "group", "token", "anonymous", "grant", "uid")
	if err != nil {
		return err
	}
	action, f, err := q.action()
	if err != nil {
		return err
	}
	out := explanation{Action: action, Subscribe: []string{}, Publish: []string{}}
	switch action {
	case access.Subscribe:
		out.Filter = f.String()
	case access.Publish:
		out.Group = f.String()
	}
	g, err = a.explained(r, q, g)
	if p := problemOf(err); r.Header.Get(explainHeader) != "" && p != nil && p.status == http.StatusUnauthorized { // it is refused everywhere
		out.Reason, out.Code = p.detail, p.code
		return writeValue(w, out)
	}
	if err != nil {
		return err
	}
	v := g.Explain(action, f)
	out.Allowed, out.Rule, out.Reason = v.Allowed, v.Rule, v.Reason
	out.Subject, out.Anonymous, out.Admin = g.Subject, g.Anonymous, g.Admin
	out.Subscribe, out.Publish = append(out.Subscribe, g.Filters(access.Subscribe)...), append(out.Publish, g.Filters(access.Publish)...)
	if !g.Expires.IsZero() {
		t := shown(g.Expires)
		out.Expires = &t
	}
	switch {
	case g.Expired(time.Now()):
		out.Allowed, out.Rule = false, ""
		out.Reason, out.Code = access.ErrExpired.Error(), "token-expired"
	case out.Allowed:
	case g.Anonymous:
		out.Code = "token-missing"
	default:
		out.Code = "forbidden"
	}
	return writeValue(w, out)
}

// action returns the action that a request asks about, with its group or filter.
func (q query) action() (action access.Action, f group.Filter, err error) {
	name, _ := q.has("action")
	filterText, hasFilter := q.has("filter")
	groupText, hasGroup := q.has("group")
	action = access.Action(name)
	switch {
	case len(q.values["group"]) > 1:
		err = badParameter("group", "appears %d times; send it once", len(q.values["group"]))
	case action == access.Admin && !hasFilter && !hasGroup:
	case action == access.Subscribe && hasFilter && !hasGroup:
		f, err = filter(filterText)
	case action == access.Publish && hasGroup && !hasFilter:
		if err = group.Check(groupText); err == nil {
			f = group.Exact(groupText)
		}
	default:
		err = badParameter("action", "ask for action=subscribe with a filter, action=publish with a group, or action=admin with neither")
	}
	return action, f, err
}

// explained returns the grant that a request asks about. Without a choice it is the caller's own. A token that is
// sent proves itself, and everything else needs administration.
func (a *api) explained(r *http.Request, q query, own *access.Grant) (g *access.Grant, err error) {
	token := r.Header.Get(explainHeader)
	name, named := q.has("token")
	text, written := q.has("grant")
	anonymous, err := q.flag("anonymous", false)
	if err != nil {
		return nil, err
	}
	chosen := 0
	for _, is := range []bool{token != "", named, written, anonymous} {
		if is {
			chosen++
		}
	}
	if chosen > 1 {
		return nil, badParameter("token", "choose one of token, grant, anonymous and %s", explainHeader)
	}
	if named || written || anonymous {
		if err := own.CheckAdmin(); err != nil {
			return nil, err
		}
	}
	tokens := a.hub.Options().Access
	switch {
	case written:
		g, err = writtenGrant(text)
	case chosen > 0 && tokens == nil:
		g = own // authentication is off
	case token != "":
		g, err = tokens.Authenticate(r.Context(), token)
	case named:
		g, err = tokens.Named(name)
	case anonymous:
		g = tokens.Anonymous()
	default:
		g = own
	}
	uid, ok := q.has("uid")
	if err != nil || !ok {
		return g, err
	}
	if _, err := uuid.Parse(uid); err != nil {
		return nil, badParameter("uid", "%.64q is not the uid of a session", uid)
	}
	return g.For(uid), nil
}

// writtenGrant parses the parameter grant.
func writtenGrant(text string) (*access.Grant, error) {
	var in struct {
		Subject   string   `json:"sub"`
		Subscribe []string `json:"subscribe"`
		Publish   []string `json:"publish"`
		Admin     bool     `json:"admin"`
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&in)
	if err == nil && d.More() {
		err = errors.New("there is more after the object")
	}
	var g *access.Grant
	if err == nil {
		g, err = access.NewGrant(in.Subject, "", in.Subscribe, in.Publish, in.Admin, time.Now(), time.Time{})
	}
	if err != nil {
		return nil, badParameter("grant", `a grant is an object such as {"sub":"anna","subscribe":["home/#"],"publish":[],"admin":false}: %s`, err)
	}
	return g, nil
}
