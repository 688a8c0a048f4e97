package store_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/store"
)

// TestNamesAreASortedMap puts and deletes at random, and compares pages with a plain map.
func TestNamesAreASortedMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	plain := map[string]int{}
	var table store.Names[int]
	name := func() string { return fmt.Sprintf("%c/%d", 'a'+r.IntN(4), r.IntN(900)) }
	for i := range 20_000 {
		n := name()
		if r.IntN(3) == 0 {
			table.Delete(n)
			delete(plain, n)
		} else {
			table.Put(n, i)
			plain[n] = i
		}
		if i%200 > 0 {
			continue
		}
		after, prefix := []string{"", "b", name()}[r.IntN(3)], []string{"", "b/", "c/1", "e"}[r.IntN(4)]
		limit := 1 + r.IntN(1000)
		var want []string
		for _, n := range slices.Sorted(maps.Keys(plain)) {
			if n > after && strings.HasPrefix(n, prefix) {
				want = append(want, n)
			}
		}
		next := ""
		if len(want) > limit {
			want, next = want[:limit], want[limit-1]
		}
		var got []string
		gotNext := table.Walk(after, prefix, limit, func(n string, v int) {
			if v != plain[n] {
				t.Fatalf("%s is %d, want %d", n, v, plain[n])
			}
			got = append(got, n)
		})
		if !slices.Equal(got, want) || gotNext != next {
			t.Fatalf("%d names after %q with %q: got %d, next %q; want %d, next %q", limit, after, prefix, len(got), gotNext, len(want), next)
		}
	}
}
