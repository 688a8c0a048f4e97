// Package duration parses and formats durations with days and weeks, and checks their limits.
package duration

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// The units that time.ParseDuration does not know. A day always has 24 hours, regardless of time zones.
const (
	Day  = 24 * time.Hour
	Week = 7 * Day
)

// Parse parses a duration such as "300ms", "2h45m", "7d" or "1w12h". It accepts everything that
// time.ParseDuration accepts, and the units d and w.
func Parse(s string) (time.Duration, error) {
	if !strings.ContainsAny(s, "dw") {
		return time.ParseDuration(s)
	}
	rest, negative := strings.CutPrefix(s, "-")
	if !negative {
		rest = strings.TrimPrefix(s, "+")
	}
	var sum time.Duration
	for rest != "" {
		number, unit, after := cut(rest)
		d, err := parseOne(number, unit)
		if err != nil || sum > math.MaxInt64-d {
			return 0, fmt.Errorf("invalid duration %q", s)
		}
		sum, rest = sum+d, after
	}
	if negative {
		sum = -sum
	}
	return sum, nil
}

// cut returns the first number of s, its unit, and the rest of s.
func cut(s string) (number, unit, rest string) {
	isDigit := func(c rune) bool { return c >= '0' && c <= '9' || c == '.' }
	n := len(s) - len(strings.TrimLeftFunc(s, isDigit))
	end := strings.IndexFunc(s[n:], isDigit)
	if end < 0 {
		return s[:n], s[n:], ""
	}
	return s[:n], s[n : n+end], s[n+end:]
}

// parseOne parses one number and its unit. It accepts no sign: only the whole duration may have one.
func parseOne(number, unit string) (time.Duration, error) {
	if number == "" {
		return 0, errors.New("a number is missing")
	}
	times := time.Duration(1)
	switch unit {
	case "d":
		unit, times = "h", Day/time.Hour
	case "w":
		unit, times = "h", Week/time.Hour
	}
	d, err := time.ParseDuration(number + unit)
	if err == nil && d > math.MaxInt64/times {
		err = errors.New("it is too long")
	}
	return d * times, err
}
