package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// scanned is store.Policies as a plain list.
type scanned map[group.Filter]store.Policy

func (s scanned) effective(f group.Filter) store.Policy { return s.without(group.Filter{}, f) }

// without returns the effective policy of f if there were none for one filter.
func (s scanned) without(one, f group.Filter) store.Policy {
	var covering []group.Filter
	for g := range s {
		if g != one && g.Covers(f) {
			covering = append(covering, g)
		}
	}
	slices.SortFunc(covering, func(a, b group.Filter) int {
		if a.Narrower(b) {
			return -1
		}
		return 1
	})
	var p store.Policy
	for _, g := range covering {
		p = p.Or(s[g])
	}
	return p.Or(store.Policy{Store: store.Memory, Compress: store.No, Slow: store.SlowCatchUp})
}

func TestEffectiveAgreesWithAScanOfAllPolicies(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	random := func() group.Filter {
		levels := make([]string, 1+r.IntN(4))
		for i := range levels {
			levels[i] = []string{"a", "b", "$c", "+", "+", "d"}[r.IntN(6)]
		}
		if r.IntN(3) == 0 {
			levels[len(levels)-1] = "#"
		}
		return filter(t, strings.Join(levels, "/"))
	}
	var table store.Policies
	plain := scanned{}
	for i := range 5000 {
		f, p := random(), store.Policy{}
		switch r.IntN(3) {
		case 0:
			p.MaxMessages = int64(i + 1)
		case 1:
			p.MaxBytes = int64(i + 1)
		}
		if err := table.Set(f, p); err != nil {
			t.Fatal(err)
		}
		if plain[f] = p; p == (store.Policy{}) {
			delete(plain, f)
		}
		for range 5 {
			f := random()
			if got, want := table.Effective(f, store.Policy{}), plain.effective(f); got != want {
				t.Fatalf("after %d changes %s has %+v, want %+v", i, f, got, want)
			}
			own, inherited := table.Own(f, store.Policy{})
			if want := plain.without(f, f); own != plain[f] || inherited != want {
				t.Fatalf("after %d changes %s has %+v itself, want %+v, and inherits %+v, want %+v", i, f, own, plain[f], inherited, want)
			}
		}
	}
	n := 0
	for f, p := range table.All() {
		if plain[f] != p {
			t.Errorf("%s is listed as %+v, want %+v", f, p, plain[f])
		}
		n++
	}
	if n != len(plain) {
		t.Errorf("%d policies are listed, want %d", n, len(plain))
	}
}

func TestPoliciesHaveALimit(t *testing.T) {
	var table store.Policies
	one := store.Policy{MaxMessages: 1}
	for i := range store.MaxPolicies {
		if err := table.Set(filter(t, fmt.Sprint("a/", i)), one); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Set(filter(t, "b"), one); !errors.Is(err, store.ErrTooManyPolicies) {
		t.Errorf("one policy too many: %v", err)
	}
	if p := table.Effective(filter(t, "b"), store.Policy{}); p.MaxMessages != 0 {
		t.Errorf("the refused policy is in force: %+v", p)
	}
	if err := table.Set(filter(t, "a/7"), store.Policy{MaxMessages: 2}); err != nil {
		t.Errorf("a policy could not be replaced: %v", err)
	}
	if err := table.Set(filter(t, "a/7"), store.Policy{}); err != nil {
		t.Errorf("a policy could not be removed: %v", err)
	}
	if err := table.Set(filter(t, "b"), one); err != nil {
		t.Errorf("setting a policy after another was removed: %v", err)
	}
}

// BenchmarkEffective looks up the policy of a group in a full table.
func BenchmarkEffective(b *testing.B) {
	var table store.Policies
	for i := range store.MaxPolicies {
		f, err := group.ParseFilter(fmt.Sprintf("home/%d/temp", i))
		if err != nil {
			b.Fatal(err)
		}
		table.Restore(f, store.Policy{MaxMessages: 1})
	}
	f := group.Exact("home/77/temp")
	for b.Loop() {
		table.Effective(f, store.Policy{})
	}
}
