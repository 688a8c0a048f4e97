package group

import (
	"slices"
	"strings"
	"testing"
)

func TestParseFilterSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		text string
		wild bool
		why  string
	}{
		{"foo", false, ""},
		{"a/b/c", false, ""},
		{"$sys/stats", false, ""},
		{"+", true, ""},
		{"#", true, ""},
		{"+/+", true, ""},
		{"+/#", true, ""},
		{"a/+/c", true, ""},
		{"a/#", true, ""},
		{"$sys/#", true, ""},

		{"", false, "is empty"},
		{"#/a", false, "has # before its end"},
		{"a/#/b", false, "has # before its end"},
		{"#/#", false, "has # before its end"},
		{"a+", false, "has + or # within a level"},
		{"+a/b", false, "has + or # within a level"},
		{"a/b#", false, "has + or # within a level"},
		{"++", false, "has + or # within a level"},
		{"##", false, "has + or # within a level"},
		{"+#", false, "has + or # within a level"},
		{"a//#", false, "has an empty level"},
		{"/#", false, "has an empty level"},
		{"../#", false, "has the level .., which"},
		{levels(MaxLevels) + "/#", false, "has more than 16 levels"},
		{"a\n/#", false, "contains the control character U+000A"},
	} {
		t.Run(c.text, func(t *testing.T) {
			f, err := ParseFilter(c.text)
			wantError(t, err, c.why)
			if err == nil && (f.String() != c.text || f.Wild() != c.wild) {
				t.Errorf("got %q, wild %v", f.String(), f.Wild())
			}
			if err != nil && f != (Filter{}) {
				t.Errorf("returned %q with its error", f.String())
			}
		})
	}
}

func TestMatchFollowsTheRulesOfMQTT(t *testing.T) {
	for _, c := range []struct {
		filter string
		yes    string // names that it selects
		no     string
	}{
		{"a", "a", "b a/b A aa"},
		{"a/b", "a/b", "a b a/b/c a/B a/bb"},
		{"+", "a b", "a/b $sys"},
		{"#", "a a/b a/b/c", "$sys $sys/stats"},
		{"+/#", "a a/b a/b/c", "$sys $sys/stats"},
		{"+/+", "a/b", "a a/b/c $sys/stats"},
		{"a/+", "a/b a/c a/$d", "a a/b/c b/a"},
		{"a/#", "a a/b a/b/c a/$d", "b ab aa/b"},
		{"a/+/c", "a/b/c a/x/c", "a/b a/c a/b/c/d a/b/b/c"},
		{"a/+/#", "a/b a/b/c a/b/c/d", "a b/b"},
		{"+/b/#", "a/b x/b/c", "a b a/c/b $sys/b"},
		{"+/+/c", "a/b/c", "a/c a/b/d"},
		{"$sys/#", "$sys $sys/stats $sys/a/b", "sys $sy a"},
		{"$sys/+", "$sys/stats", "$sys $sys/a/b"},
		{"$session/+/x", "$session/u/x", "$session/u"},
	} {
		f := parse(t, c.filter)
		for name := range strings.FieldsSeq(c.yes) {
			if !f.Match(name) {
				t.Errorf("%s does not match %s", c.filter, name)
			}
		}
		for name := range strings.FieldsSeq(c.no) {
			if f.Match(name) {
				t.Errorf("%s matches %s", c.filter, name)
			}
		}
	}
}

func TestTheZeroFilterSelectsNothing(t *testing.T) {
	var zero Filter
	if zero.Match("a") || zero.Covers(parse(t, "a")) || parse(t, "#").Covers(zero) || zero.Wild() {
		t.Error("the zero filter selects, covers or is covered by something")
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		filter  string
		yes, no string
	}{
		{"a", "a", "b a/b + # a/#"},
		{"+", "a +", "a/b # +/# a/# $sys"},
		{"#", "a a/b + # +/# a/+ a/# +/+", "$sys $sys/# $sys/+"},
		{"+/#", "a a/b + # +/# a/# +/+", "$sys $sys/#"},
		{"+/+", "a/b +/b a/+ +/+", "a # a/# a/b/c $sys/b"},
		{"a/#", "a a/b a/+ a/# a/+/# a/b/#", "b # + +/a +/#"},
		{"a/+", "a/b a/+", "a a/# a/+/# a/b/c"},
		{"a/+/#", "a/b a/+ a/+/# a/b/#", "a a/#"},
		{"$sys/#", "$sys $sys/a $sys/+ $sys/#", "# + a"},
	} {
		f := parse(t, c.filter)
		for g := range strings.FieldsSeq(c.yes) {
			if !f.Covers(parse(t, g)) {
				t.Errorf("%s does not cover %s", c.filter, g)
			}
		}
		for g := range strings.FieldsSeq(c.no) {
			if f.Covers(parse(t, g)) {
				t.Errorf("%s covers %s", c.filter, g)
			}
		}
	}
}

// small returns every valid filter of up to three levels from a small alphabet, and the names of up
// to four levels. The names have one level and one word more than the filters, so that different
// filters select different names.
func small(t *testing.T) (filters []Filter, names []string) {
	t.Helper()
	texts := product(3, "a", "$b", "+", "#")
	for _, s := range texts {
		if f, err := ParseFilter(s); err == nil {
			filters = append(filters, f)
		}
	}
	return filters, product(4, "a", "$b", "c")
}

// product returns all texts of up to n of the levels.
func product(n int, levels ...string) []string {
	all := slices.Clone(levels)
	last := all
	for range n - 1 {
		var next []string
		for _, s := range last {
			for _, l := range levels {
				next = append(next, s+"/"+l)
			}
		}
		all, last = append(all, next...), next
	}
	return all
}

func TestAFilterCoversAnotherIfItMatchesEveryGroupOfIt(t *testing.T) {
	filters, names := small(t)
	for _, f := range filters {
		for _, g := range filters {
			all := true
			for _, n := range names {
				all = all && (!g.Match(n) || f.Match(n))
			}
			if f.Covers(g) != all {
				t.Errorf("%s covers %s: %v; matches all that it does: %v", f, g, !all, all)
			}
		}
	}
}

func TestEveryNameThatAFilterMatchesHasItsPrefix(t *testing.T) {
	filters, names := small(t)
	for _, f := range filters {
		for _, n := range names {
			if f.Match(n) && !strings.HasPrefix(n, f.Prefix()) {
				t.Errorf("%s matches %s, which does not begin with %q", f, n, f.Prefix())
			}
		}
	}
}

func TestFiltersOverlapIfTheyHaveAGroupInCommon(t *testing.T) {
	filters, names := small(t)
	for _, f := range filters {
		for _, g := range filters {
			common := slices.ContainsFunc(names, func(n string) bool { return f.Match(n) && g.Match(n) })
			if f.Overlaps(g) != common {
				t.Errorf("%s overlaps %s: %v; a group is selected by both: %v", f, g, !common, common)
			}
		}
	}
	if zero := (Filter{}); zero.Overlaps(filters[0]) || filters[0].Overlaps(zero) {
		t.Error("the zero filter overlaps another filter")
	}
}

func TestNarrower(t *testing.T) {
	// Each list goes from the narrowest to the widest filter of one group.
	for _, list := range []string{
		"a a/# + +/# #",
		"a/b/c a/b/+ a/b/# a/+/c a/+/+ a/+/# a/# +/b/c +/b/# +/+/c +/+/+ +/+/# +/# #",
		"a/b a/b/# a/+ a/+/# a/# +/b +/b/# +/+ +/+/# +/# #",
		"$sys/a $sys/+ $sys/#",
	} {
		filters := strings.Fields(list)
		for i, narrow := range filters {
			for j, wide := range filters {
				if got := parse(t, narrow).Narrower(parse(t, wide)); got != (i < j) {
					t.Errorf("%s narrower than %s: %v", narrow, wide, got)
				}
			}
		}
	}
}

// A table that is sorted by Narrower needs an order over all filters, including those that have no
// group in common.
func TestNarrowerIsAStrictWeakOrder(t *testing.T) {
	filters, _ := small(t)
	less := Filter.Narrower
	for _, a := range filters {
		for _, b := range filters {
			if less(a, b) && less(b, a) {
				t.Fatalf("%s and %s are each narrower than the other", a, b)
			}
			for _, c := range filters {
				if less(a, c) && !less(a, b) && !less(b, c) {
					t.Fatalf("%s is narrower than %s, and %s is neither wider than the one nor narrower than the other", a, c, b)
				}
			}
		}
	}
}

func TestACoveredFilterIsNarrower(t *testing.T) {
	filters, _ := small(t)
	for _, f := range filters {
		for _, g := range filters {
			if f.Covers(g) && !g.Covers(f) && !g.Narrower(f) {
				t.Errorf("%s covers %s, which is not narrower", f, g)
			}
		}
	}
}

func TestSet(t *testing.T) {
	s := Set{parse(t, "a"), parse(t, "b/+"), parse(t, "a"), Exact("c/d")}
	for name, want := range map[string]bool{"a": true, "b/x": true, "c/d": true, "b": false, "c": false} {
		if s.Match(name) != want {
			t.Errorf("matches %s: %v", name, !want)
		}
	}
	if !s.Wild() || s[:1].Wild() || Set(nil).Wild() || Set(nil).Match("a") {
		t.Error("Wild or Match is wrong for a set, a part of it or the empty set")
	}
	if got := s.Strings(); !slices.Equal(got, []string{"a", "b/+", "a", "c/d"}) {
		t.Errorf("strings %q", got)
	}
	if got := s.Names(); !slices.Equal(got, []string{"a", "c/d"}) {
		t.Errorf("names %q", got)
	}
}

func parse(t *testing.T, s string) Filter {
	t.Helper()
	f, err := ParseFilter(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
