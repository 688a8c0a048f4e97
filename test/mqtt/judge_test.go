//go:build !windows

package mqtt_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// judge says what is wrong with the numbers that arrived of a sender who sent 1 to n and got an answer for each. They
// must be there in order. With repeats, numbers may come again later, as they do when a connection breaks before they are
// acknowledged.
func judge(n int, got []int, repeats bool) (wrong []string) {
	newest := 0
	for _, v := range got {
		switch {
		case v < 1 || v > n:
			wrong = append(wrong, fmt.Sprintf("%d was never sent", v))
		case v == newest+1:
			newest++
		case v > newest:
			wrong = append(wrong, fmt.Sprintf("%d comes after %d: those between are lost or late", v, newest))
			newest = v
		case !repeats:
			wrong = append(wrong, fmt.Sprintf("%d comes again after %d", v, newest))
		}
	}
	if newest != n {
		wrong = append(wrong, fmt.Sprintf("%d to %d are lost", newest+1, n))
	}
	return wrong
}

// verdict fails the test if the judge finds a fault.
func verdict(t testing.TB, what string, n int, got []int, repeats bool) {
	t.Helper()
	wrong := judge(n, got, repeats)
	for _, w := range wrong[:min(len(wrong), 10)] {
		t.Errorf("%s: %s", what, w)
	}
	if len(wrong) > 10 {
		t.Errorf("%s: and %d more", what, len(wrong)-10)
	}
}

// TestTheJudgeFindsEachFault passes the judge a good run, and the same run with one fault each.
func TestTheJudgeFindsEachFault(t *testing.T) {
	for _, c := range []struct {
		name    string
		repeats bool
		got     []int
		fault   string
	}{
		{"nothing", false, []int{1, 2, 3, 4, 5}, ""},
		{"one is lost", false, []int{1, 2, 4, 5}, "lost or late"},
		{"the first is lost", true, []int{2, 3, 4, 5}, "lost or late"},
		{"the last is lost", true, []int{1, 2, 3, 4}, "5 to 5 are lost"},
		{"two are swapped", true, []int{1, 3, 2, 4, 5}, "lost or late"},
		{"one is repeated", false, []int{1, 2, 3, 3, 4, 5}, "again"},
		{"one was never sent", true, []int{1, 2, 3, 4, 5, 6}, "never sent"},
		{"the end is repeated, as it may be", true, []int{1, 2, 3, 2, 3, 4, 5}, ""},
		{"it is repeated twice, as it may be", true, []int{1, 2, 3, 2, 3, 2, 3, 4, 5}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			wrong := judge(5, slices.Clone(c.got), c.repeats)
			if c.fault == "" && len(wrong) > 0 || c.fault != "" && !strings.Contains(strings.Join(wrong, "\n"), c.fault) {
				t.Errorf("the judge found %q", wrong)
			}
		})
	}
}
