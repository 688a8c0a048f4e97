package access

import (
	"fmt"
	"strings"

	"github.com/watchbox-go/watchbox/internal/group"
)

// Verdict says whether a grant allows an action, and why.
type Verdict struct {
	Allowed bool
	Rule    string // the filter of the grant that allows it; "" if another rule does, or none
	Reason  string // for people
}

// Explain says whether the grant allows publishing to a group, subscribing to a filter or administration, as May,
// Covers and CheckAdmin do. f is not used for Admin.
func (g *Grant) Explain(action Action, f group.Filter) Verdict {
	switch {
	case g.all:
		return Verdict{Allowed: true, Reason: "authentication is off: every caller may do everything"}
	case action == Admin && g.Admin:
		return Verdict{Allowed: true, Reason: "the grant allows administration"}
	case action == Admin:
		return Verdict{Reason: "the grant does not allow administration: it needs admin"}
	case action == Publish:
		return explain("publish to", f.String(), g.Publish, g.uidPublish, func(allowed group.Filter) bool { return allowed.Match(f.String()) })
	}
	return g.explainSubscribe(f)
}

func (g *Grant) explainSubscribe(f group.Filter) Verdict {
	name := f.String()
	switch {
	case name+"/" == sessionPrefix || strings.HasPrefix(name, sessionPrefix):
		return Verdict{Reason: "only the session itself gets the messages that were sent to it, and it needs no filter for them"}
	case name == sysPrefix || strings.HasPrefix(name, sysPrefix+"/"):
		if g.Admin {
			return Verdict{Allowed: true, Reason: "the grant allows administration, which $sys needs"}
		}
		return Verdict{Reason: "$sys is for administration: the grant needs admin"}
	case strings.HasPrefix(name, presencePrefix):
		of, err := group.ParseFilter(strings.TrimPrefix(name, presencePrefix))
		if err != nil {
			return Verdict{Reason: "the presence of something that is no filter: " + err.Error()}
		}
		v := g.Explain(Subscribe, of)
		v.Reason = fmt.Sprintf("the presence of %q needs the same as %q: %s", of, of, v.Reason)
		return v
	}
	return explain("subscribe to", name, g.Subscribe, g.uidSubscribe, func(allowed group.Filter) bool { return allowed.Covers(f) })
}

// explain looks for the filter that allows an action.
func explain(action, name string, list group.Set, waiting []string, allows func(group.Filter) bool) Verdict {
	for _, f := range list {
		if allows(f) {
			return Verdict{true, f.String(), fmt.Sprintf("the grant allows to %s %q by %q", action, name, f)}
		}
	}
	reason := fmt.Sprintf("the grant does not allow to %s any group", action)
	if len(list) > 0 {
		reason = fmt.Sprintf("the grant allows to %s only %s, which does not cover %q", action, strings.Join(list.Strings(), ", "), name)
	}
	if len(waiting) > 0 {
		reason += fmt.Sprintf("; %s needs a session, whose uid replaces {uid}", strings.Join(waiting, ", "))
	}
	return Verdict{Reason: reason}
}

// Filters returns the filters of the grant for an action as the credential has them, but with {sub} replaced.
func (g *Grant) Filters(action Action) []string {
	list, waiting := g.Subscribe, g.uidSubscribe
	switch {
	case g.all:
		return []string{"#"}
	case action == Publish:
		list, waiting = g.Publish, g.uidPublish
	}
	return append(list.Strings(), waiting...)
}

// Named returns the grant of the API token with a name, or ErrTokenUnknown. It may have expired.
func (a *Authenticator) Named(name string) (*Grant, error) {
	for _, g := range a.tokens.Load().valid {
		if g.Subject == name {
			return g, nil
		}
	}
	return nil, ErrTokenUnknown
}
