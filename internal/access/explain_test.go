package access_test

import (
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
)

// TestExplanationsAgreeWithTheChecks explains many groups and filters with several grants.
func TestExplanationsAgreeWithTheChecks(t *testing.T) {
	grants := map[string]*access.Grant{"everything": access.Everything}
	for name, lists := range map[string][2]string{"none": {}, "all": {"# $presence/#", "# $session/+"}, "home": {"home/# a/+", "home/phone"}, "uid": {"u/{uid}/# {sub}", "u/{uid}"}} {
		for _, admin := range []bool{false, true} {
			g, err := access.NewGrant("anna", "", strings.Fields(lists[0]), strings.Fields(lists[1]), admin, time.Now(), time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			grants[name+map[bool]string{true: " admin"}[admin]] = g
		}
	}
	for name, g := range grants {
		if v := g.Explain(access.Admin, group.Filter{}); v.Allowed != (g.CheckAdmin() == nil) || v.Reason == "" {
			t.Errorf("%s, administration: %+v", name, v)
		}
		for _, text := range []string{"home", "home/phone", "home/#", "home/+/x", "a/b", "a/+", "a/#", "#", "+", "$sys/stats", "$sys/#", "$session/x", "$session/#", "$presence/home/#", "$presence/#", "anna", "u/x"} {
			f, err := group.ParseFilter(text)
			if err != nil {
				t.Fatal(err)
			}
			if v := g.Explain(access.Subscribe, f); v.Allowed != g.Covers(f) || v.Reason == "" {
				t.Errorf("%s, subscribe to %s: %+v", name, text, v)
			}
			if v := g.Explain(access.Publish, f); !f.Wild() && v.Allowed != g.May(text) || v.Reason == "" {
				t.Errorf("%s, publish to %s: %+v", name, text, v)
			}
		}
	}
	v := grants["uid"].Explain(access.Publish, group.Exact("u/x"))
	if !strings.Contains(v.Reason, "u/{uid} needs a session") {
		t.Errorf("%+v", v)
	}
	if v := grants["home"].Explain(access.Subscribe, group.Exact("home/x")); v.Rule != "home/#" {
		t.Errorf("%+v", v)
	}
}
