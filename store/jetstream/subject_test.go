package jetstream

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
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
