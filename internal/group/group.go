package group

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a name or filter.
const (
	MaxBytes  = 255
	MaxLevels = 16
)

// Error reports an invalid name or filter. Its text says how to correct it.
type Error struct {
	Text string // the name or filter
	Why  string
}

func (e *Error) Error() string { return fmt.Sprintf("%q %s", e.Text, e.Why) }

// Check returns an error unless name is the valid name of a group. It allows system groups, whose
// names begin with "$".
func Check(name string) error {
	if i := strings.IndexAny(name, "+#"); i >= 0 {
		return &Error{name, fmt.Sprintf("is a pattern: %q is allowed in filters only; name one group", name[i])}
	}
	return check(name)
}

// CheckClient is Check for groups to which clients send: it refuses system groups.
func CheckClient(name string) error {
	if strings.HasPrefix(name, "$") {
		return &Error{name, "is reserved for the server: choose a name that does not begin with $"}
	}
	return Check(name)
}

// check checks the rules that names and filters have in common.
func check(s string) error {
	switch {
	case s == "":
		return &Error{s, "is empty: a group has 1 to 255 bytes, such as home/kitchen"}
	case len(s) > MaxBytes:
		return &Error{s[:32] + "…", fmt.Sprintf("has %d bytes: the limit is %d", len(s), MaxBytes)}
	case !utf8.ValidString(s):
		return &Error{s, "is not UTF-8"}
	case strings.Count(s, "/") >= MaxLevels:
		return &Error{s, fmt.Sprintf("has more than %d levels, which is the limit", MaxLevels)}
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return &Error{s, fmt.Sprintf("contains the control character %U", r)}
		}
	}
	for level := range strings.SplitSeq(s, "/") {
		switch level {
		case "":
			return &Error{s, "has an empty level: write a/b, without a slash at either end or two in a row (a # in a URL is written %23)"}
		case ".", "..":
			return &Error{s, "has the level " + level + ", which browsers and proxies rewrite"}
		}
	}
	return nil
}
