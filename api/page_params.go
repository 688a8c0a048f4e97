package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Rows of an answer that comes in pages.
const (
	defaultRows = 1000
	maxRows     = 10_000
)

// page returns the parameters limit and after. An answer that is sorted by a value, or that continues another one,
// has a limit in any case; 0: the answer has all rows.
func (q query) page(sorted bool) (limit int, after string, err error) {
	if limit, err = q.limit(); err != nil {
		return 0, "", err
	}
	after, continues := q.has("after")
	switch {
	case continues && after == "":
		return 0, "", badParameter("after", "is empty; leave it out to get the first page")
	case limit == 0 && (sorted || continues):
		limit = defaultRows
	}
	return min(limit, maxRows), after, nil
}

// number returns a parameter that is a number from 1 to most, or 0 if it is absent.
func (q query) number(name string, most int) (int, error) {
	s, ok := q.has(name)
	if !ok {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		return 0, badParameter(name, "%.64q is not a whole number from 1 to %d", s, most)
	}
	return n, nil
}

// choice returns a parameter that is one of a list, or the first of the list if it is absent.
func choice[T ~string](q query, name string, list []T) (T, error) {
	s, ok := q.has(name)
	if !ok {
		return list[0], nil
	}
	if !slices.Contains(list, T(s)) {
		return "", badParameter(name, "%.64q is none of %s", s, strings.Trim(fmt.Sprint(list), "[]"))
	}
	return T(s), nil
}
