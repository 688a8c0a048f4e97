package jetstream

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/watchbox-go/watchbox/internal/group"
)

var subjectToken = regexp.MustCompile(`^[A-Za-z0-9_=-]+$`)

func TestEveryNameHasASubjectOfItsOwn(t *testing.T) {
	name := rapid.StringOf(rapid.OneOf(rapid.RuneFrom([]rune("ab/./=*>+# \x00é$")), rapid.Rune()))
	rapid.Check(t, func(t *rapid.T) {
		a, b := name.Draw(t, "a"), name.Draw(t, "b")
		s := escape(a)
		for token := range strings.SplitSeq(s, ".") {
			if !subjectToken.MatchString(token) {
				t.Fatalf("%q is escaped as %q", a, s)
			}
		}
		if back, ok := unescape(s); !ok || back != a {
			t.Fatalf("%q is escaped as %q, and back as %q, %v", a, s, back, ok)
		}
		if a != b && s == escape(b) {
			t.Fatalf("%q and %q are both escaped as %q", a, b, s)
		}
	})
}

func TestLevelsOfAGroupAreTokens(t *testing.T) {
	s := subjectsOf("WATCHBOX")
	for got, want := range map[string]string{
		s.message("home/kitchen.1/temp", messages): "wb.WATCHBOX.m.home.kitchen=2E1.temp",
		s.message("$sys/é", retained):              "wb.WATCHBOX.r.=24sys.=C3=A9",
		s.note("policy/a/#"):                       "wb.WATCHBOX.n.policy.a.=23",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestSubjectsOfFiltersHaveWhatTheySelect(t *testing.T) {
	level := rapid.SampledFrom([]string{"", "a", "b.c", "$", "=", "n"})
	s := subjectsOf("WATCHBOX")
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.SliceOfN(rapid.OneOf(level, rapid.Just("+")), 0, 3).Draw(t, "levels")
		if len(pattern) == 0 || rapid.Bool().Draw(t, "open") {
			pattern = append(pattern, "#")
		}
		f, err := group.ParseFilter(strings.Join(pattern, "/"))
		if err != nil {
			t.Skip("the filter has no level")
		}
		name := strings.Join(rapid.SliceOfN(level, 1, 4).Draw(t, "group"), "/")
		if rapid.Bool().Draw(t, "exact") {
			name += rapid.SampledFrom([]string{"", "/+", "/#"}).Draw(t, "end") // as groups of $presence
			f = group.Exact(name)
		}
		subject := s.message(name, rapid.SampledFrom(messageKinds[:]).Draw(t, "kind"))
		list := s.matching(group.Set{f})
		found := slices.ContainsFunc(list, func(filter string) bool { return subjectMatches(filter, subject) })
		if f.Match(name) && !found {
			t.Errorf("%q selects %q, and none of %q has %q", f, name, list, subject)
		}
	})
}

func TestOtherTokensAreNoName(t *testing.T) {
	for _, s := range []string{"*", "a.>", "a b", "=", "a.=4", "=zz", "=2e", "a+"} {
		if name, ok := unescape(s); ok && escape(name) != s {
			t.Errorf("%q is taken for %q", s, name)
		}
	}
}

func TestSubjectsWithWildcardsMatchAsInNATS(t *testing.T) {
	for _, c := range []struct {
		filter, subject string
		want            bool
	}{
		{"", "a.b", true}, {">", "a", true}, {"a.>", "a.b.c", true}, {"a.>", "a", false}, {"a.*", "a.b", true},
		{"a.*", "a.b.c", false}, {"a.*.c", "a.b.c", true}, {"a.b", "a.b", true}, {"a.b", "a", false}, {"a", "a.b", false}, {"b.>", "a.b", false},
	} {
		if got := subjectMatches(c.filter, c.subject); got != c.want {
			t.Errorf("%q matches %q: %v", c.filter, c.subject, got)
		}
	}
}
