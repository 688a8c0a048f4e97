package group

import (
	"regexp"
	"strings"
	"testing"
)

// FuzzFilter compares Match with a regular expression made from the filter, and Covers with Match.
func FuzzFilter(f *testing.F) {
	for _, s := range [][3]string{
		{"a/+/c", "a/#", "a/b/c"}, {"#", "+/#", "$sys/x"}, {"a/#", "a", "a"},
		{"+", "#", "a"}, {"$sys/#", "$sys/+", "$sys/stats"}, {"é/+", "é/#", "é/\u00a0"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, one, other, name string) {
		if Check(name) != nil {
			return
		}
		a, err := ParseFilter(one)
		if err != nil {
			return
		}
		if got, want := a.Match(name), pattern(one).MatchString(name); got != want {
			t.Errorf("%q matches %q: %v, as a regular expression: %v", one, name, got, want)
		}
		b, err := ParseFilter(other)
		if err != nil {
			return
		}
		if a.Covers(b) && b.Match(name) && !a.Match(name) {
			t.Errorf("%q covers %q, which alone matches %q", one, other, name)
		}
		if a.Covers(Exact(name)) != a.Match(name) {
			t.Errorf("%q covers and matches %q: not the same", one, name)
		}
	})
}

// pattern writes a filter as a regular expression.
func pattern(filter string) *regexp.Regexp {
	if filter == "#" {
		return regexp.MustCompile(`(?s)^[^$]`)
	}
	body, rest := strings.CutSuffix(filter, "/#")
	levels := strings.Split(body, "/")
	for i, l := range levels {
		switch {
		case l == "+" && i == 0:
			levels[i] = `[^/$][^/]*`
		case l == "+":
			levels[i] = `[^/]+`
		default:
			levels[i] = regexp.QuoteMeta(l)
		}
	}
	expr := "(?s)^" + strings.Join(levels, "/")
	if rest {
		expr += "(/.+)?"
	}
	return regexp.MustCompile(expr + "$")
}
