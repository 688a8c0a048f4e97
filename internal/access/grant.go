package access

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// Grant is what a caller may do. The zero value allows nothing. A grant does not change once it is in
// use, so it may be shared between goroutines.
type Grant struct {
	Subject   string // identifies the caller: sub of a JWT, or the name of an API token; "" for anonymous callers
	ID        string // jti of a JWT; "" if there is none
	Subscribe group.Set
	Publish   group.Set
	Admin     bool
	Issued    time.Time // zero if unknown
	Expires   time.Time // zero: never
	Anonymous bool      // the caller sent no token

	all bool // allows everything, including the server's own groups

	// Patterns that contain {uid}. They become filters once the session is known.
	uidSubscribe, uidPublish []string

	apiToken sum // SHA-256 of the API token of the grant; zero for other grants
}

// Everything is the grant of the embedding program, and of every caller while authentication is off.
var Everything = &Grant{Admin: true, all: true}

// Prefixes of the server's groups that have rules of their own.
const (
	presencePrefix = "$presence/"
	sessionPrefix  = "$session/"
	sysPrefix      = "$sys"
)

// NewGrant returns a grant for an embedding program that authenticates callers itself. The patterns may
// contain {sub} and {uid}.
func NewGrant(subject, id string, subscribe, publish []string, admin bool, issued, expires time.Time) (*Grant, error) {
	for _, list := range [][]string{subscribe, publish} {
		if _, err := ParseFilters(list, true); err != nil {
			return nil, err
		}
	}
	g := &Grant{Subject: subject, ID: id, Admin: admin, Issued: issued, Expires: expires}
	g.Subscribe, g.uidSubscribe = patterns(subscribe, subject)
	g.Publish, g.uidPublish = patterns(publish, subject)
	return g, nil
}

// May reports whether the grant allows publishing to a group. A nil grant allows nothing.
func (g *Grant) May(name string) bool { return g != nil && (g.all || g.Publish.Match(name)) }

// Covers reports whether the grant allows subscribing to every group that f matches. The presence of a
// filter requires that the grant covers the filter itself, $session/{uid} is never allowed, and $sys is
// for admins. A nil grant allows nothing.
func (g *Grant) Covers(f group.Filter) bool {
	name := f.String()
	switch {
	case g == nil:
		return false
	case g.all:
		return true
	case name+"/" == sessionPrefix || strings.HasPrefix(name, sessionPrefix):
		return false // a session gets its own messages without a filter
	case name == sysPrefix || strings.HasPrefix(name, sysPrefix+"/"):
		return g.Admin
	case strings.HasPrefix(name, presencePrefix):
		of, err := group.ParseFilter(strings.TrimPrefix(name, presencePrefix))
		return err == nil && g.Covers(of)
	}
	for _, allowed := range g.Subscribe {
		if allowed.Covers(f) {
			return true
		}
	}
	return false
}

// CheckPublish returns nil if the grant allows publishing to a group. Otherwise it returns ErrMissing for a
// caller without a token, and a *Forbidden for others.
func (g *Grant) CheckPublish(name string) error {
	if g.May(name) {
		return nil
	}
	return g.refuse(Publish, name)
}

// CheckSubscribe is like CheckPublish, for subscribing to a filter.
func (g *Grant) CheckSubscribe(f group.Filter) error {
	if g.Covers(f) {
		return nil
	}
	return g.refuse(Subscribe, f.String())
}

// CheckAdmin is like CheckPublish, for administration.
func (g *Grant) CheckAdmin() error {
	if g != nil && g.Admin {
		return nil
	}
	return g.refuse(Admin, "")
}

func (g *Grant) refuse(action Action, filter string) error {
	if g != nil && g.Anonymous {
		return ErrMissing
	}
	return &Forbidden{action, filter}
}

// IsEmpty reports whether the grant allows nothing at all.
func (g *Grant) IsEmpty() bool {
	return !g.all && !g.Admin && len(g.Subscribe)+len(g.Publish)+len(g.uidSubscribe)+len(g.uidPublish) == 0
}

// Expired reports whether the grant has expired at a time.
func (g *Grant) Expired(at time.Time) bool { return !g.Expires.IsZero() && !at.Before(g.Expires) }

// ExpiresIn returns the whole seconds until the grant expires, at least 0. ends is false if it never expires.
func (g *Grant) ExpiresIn() (seconds int64, ends bool) {
	if g.Expires.IsZero() {
		return 0, false
	}
	return max(0, int64(time.Until(g.Expires)/time.Second)), true
}

// For returns the grant for one session, with {uid} replaced by its uid.
func (g *Grant) For(uid string) *Grant {
	if uid == "" || len(g.uidSubscribe) == 0 && len(g.uidPublish) == 0 {
		return g
	}
	of := *g
	of.Subscribe = appendPatterns(g.Subscribe[:len(g.Subscribe):len(g.Subscribe)], g.uidSubscribe, uidHolder, uid)
	of.Publish = appendPatterns(g.Publish[:len(g.Publish):len(g.Publish)], g.uidPublish, uidHolder, uid)
	of.uidSubscribe, of.uidPublish = nil, nil
	return &of
}

// Placeholders of a grant's patterns.
const (
	subHolder = "{sub}"
	uidHolder = "{uid}"
)

// patterns turns the patterns of a credential into filters. It returns those that contain {uid} unchanged
// as waiting, because the session's uid is not known yet.
func patterns(list []string, subject string) (filters group.Set, waiting []string) {
	for _, p := range list {
		if strings.Contains(p, uidHolder) {
			if p, ok := fill(p, subHolder, subject); ok {
				waiting = append(waiting, p)
			}
			continue
		}
		filters = appendPatterns(filters, []string{p}, subHolder, subject)
	}
	return filters, waiting
}

// appendPatterns replaces a placeholder in patterns with a value, and appends the resulting filters. It
// skips a pattern that does not become a valid filter.
func appendPatterns(to group.Set, list []string, holder, value string) group.Set {
	for _, p := range list {
		p, ok := fill(p, holder, value)
		if !ok {
			continue
		}
		if f, err := group.ParseFilter(p); err == nil {
			to = append(to, f)
		}
	}
	return to
}

// fill replaces a placeholder with a value. It refuses a value that is not a single level without wildcards.
func fill(pattern, holder, value string) (string, bool) {
	if !strings.Contains(pattern, holder) {
		return pattern, true
	}
	if value == "" || strings.ContainsAny(value, "/+#$") {
		return "", false
	}
	return strings.ReplaceAll(pattern, holder, value), true
}

// ParseFilters parses filters. If placeholders is true they may contain {sub} and {uid}, which are replaced
// by the levels sub and uid.
func ParseFilters(list []string, placeholders bool) (group.Set, error) {
	set := make(group.Set, 0, len(list))
	for _, p := range list {
		if placeholders {
			p = strings.NewReplacer(subHolder, "sub", uidHolder, "uid").Replace(p)
		}
		f, err := group.ParseFilter(p)
		if err != nil {
			return nil, err
		}
		set = append(set, f)
	}
	return set, nil
}

// grantJSON is a grant as one hub tells another of it.
type grantJSON struct {
	Subject, ID              string
	Subscribe, Publish       []string
	Admin, Anonymous, All    bool
	Issued, Expires          time.Time
	UIDSubscribe, UIDPublish []string
	APIToken                 []byte
}

// Encode encodes the whole grant, also what identifies its API token. It is meant for another hub, not for clients.
func (g *Grant) Encode() []byte {
	b, err := json.Marshal(grantJSON{
		g.Subject, g.ID, g.Subscribe.Strings(), g.Publish.Strings(), g.Admin, g.Anonymous, g.all, g.Issued, g.Expires,
		g.uidSubscribe, g.uidPublish, g.apiToken[:],
	})
	if err != nil {
		panic("access: a grant: " + err.Error()) // impossible: strings, bytes and times that were parsed
	}
	return b
}

// DecodeGrant decodes what Encode has encoded.
func DecodeGrant(b []byte) (*Grant, error) {
	var in grantJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, err
	}
	subscribe, err := ParseFilters(in.Subscribe, false)
	if err != nil {
		return nil, err
	}
	publish, err := ParseFilters(in.Publish, false)
	if err != nil {
		return nil, err
	}
	g := &Grant{
		Subject: in.Subject, ID: in.ID, Subscribe: subscribe, Publish: publish, Admin: in.Admin, Anonymous: in.Anonymous, all: in.All,
		Issued: in.Issued, Expires: in.Expires, uidSubscribe: in.UIDSubscribe, uidPublish: in.UIDPublish,
	}
	copy(g.apiToken[:], in.APIToken)
	return g, nil
}
