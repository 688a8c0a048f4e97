package access_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
)

func set(t testing.TB, list ...string) group.Set {
	t.Helper()
	s, err := access.ParseFilters(list, false)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// universe returns all groups of up to three levels over a small alphabet, including groups of the server.
func universe() []string {
	levels := []string{"a", "b"}
	names := []string{"a", "b", "$s"}
	for last := slices.Clone(names); len(last[0]) < 4; {
		var next []string
		for _, n := range last {
			for _, l := range levels {
				next = append(next, n+"/"+l)
			}
		}
		names, last = append(names, next...), next
	}
	return names
}

// drawFilter draws a filter of up to three levels over the same alphabet.
func drawFilter(t *rapid.T) group.Filter {
	text := rapid.SampledFrom([]string{"a", "b", "$s", "+", "#"}).Draw(t, "level")
	for i := 0; i < 2 && text[len(text)-1] != '#' && rapid.Bool().Draw(t, "more"); i++ {
		text += "/" + rapid.SampledFrom([]string{"a", "b", "+", "#"}).Draw(t, "level")
	}
	f, err := group.ParseFilter(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestAGrantCoversAFilterIfItMatchesAllItsGroups checks Covers against its definition. Groups have one more
// level than filters, so that a final # and a final + differ.
func TestAGrantCoversAFilterIfItMatchesAllItsGroups(t *testing.T) {
	names := universe()
	deeper := slices.Clone(names)
	for _, n := range names {
		deeper = append(deeper, n+"/a", n+"/b", n+"/c")
	}
	deeper = append(deeper, "c", "c/a", "$t", "$t/a", "a/c", "a/c/a", "a/a/c/a")
	rapid.Check(t, func(t *rapid.T) {
		allowed, asked := drawFilter(t), drawFilter(t)
		want := true
		for _, n := range deeper {
			want = want && (!asked.Match(n) || allowed.Match(n))
		}
		g := &access.Grant{Subscribe: group.Set{allowed}}
		if got := g.Covers(asked); got != want {
			t.Fatalf("a grant for %s covers %s: %t, want %t", allowed, asked, got, want)
		}
	})
}

func TestServerGroupsHaveTheirOwnRules(t *testing.T) {
	all := &access.Grant{Subscribe: set(t, "#")}
	admin := &access.Grant{Admin: true}
	home := &access.Grant{Subscribe: set(t, "home/#")}
	for _, c := range []struct {
		who    string
		grant  *access.Grant
		filter string
		want   bool
	}{
		{"all", all, "$presence/home/#", true},
		{"all", all, "$sys/stats", false},
		{"all", all, "$session/x", false},
		{"all", all, "$other/x", false},
		{"admin", admin, "$sys/#", true},
		{"admin", admin, "$sys", true},
		{"admin", admin, "home", false},
		{"admin", admin, "$presence/home", false},
		{"home", home, "$presence/home/+", true},
		{"home", home, "$presence/#", false},
		{"home", home, "$presence/garden", false},
		{"home", home, "home", true},
		{"an empty grant", &access.Grant{}, "home", false},
		{"the program", access.Everything, "$sys/#", true},
		{"the program", access.Everything, "$session/+", true},
	} {
		f, err := group.ParseFilter(c.filter)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.grant.Covers(f); got != c.want {
			t.Errorf("%s subscribes to %s: %t, want %t", c.who, c.filter, got, c.want)
		}
	}
}

func TestPublishingNeedsAMatchingFilter(t *testing.T) {
	g := &access.Grant{Publish: set(t, "home/+", "$server", "$session/+")}
	for name, want := range map[string]bool{
		"home/x": true, "home": false, "home/x/y": false, "$server": true, "$session/abc": true, "$sys/stats": false,
	} {
		if got := g.May(name); got != want {
			t.Errorf("publishing to %s: %t, want %t", name, got, want)
		}
	}
	if (&access.Grant{Publish: set(t, "#")}).May("$session/abc") {
		t.Error("# allows a direct message to any session")
	}
}
