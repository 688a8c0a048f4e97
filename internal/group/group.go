package group

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a name or filter.
const (
	MaxBytes  = 255
	MaxLevels = 16
)

// Error says what is wrong with a name or filter, and what would be right.
type Error struct {
	Text string // what was given
	Why  string
}

func (e *Error) Error() string { return fmt.Sprintf("%q %s", e.Text, e.Why) }

// Check reports whether name can be sent to by the server itself. Names that begin with "$" pass.
func Check(name string) error {
	if i := strings.IndexAny(name, "+#"); i >= 0 {
		return &Error{name, fmt.Sprintf("is a pattern: %q may stand in a filter only; send to one group", name[i])}
	}
	return check(name)
}

// CheckClient is Check for a client's message: names that begin with "$" belong to the server.
func CheckClient(name string) error {
	if strings.HasPrefix(name, "$") {
		return &Error{name, "belongs to the server: choose a name that does not begin with $"}
	}
	return Check(name)
}

// check holds what names and filters have in common.
func check(s string) error {
	switch {
	case s == "":
		return &Error{s, "is empty: a group has 1 to 255 bytes, as home/kitchen"}
	case len(s) > MaxBytes:
		return &Error{s[:32] + "…", fmt.Sprintf("has %d bytes: the most is %d", len(s), MaxBytes)}
	case !utf8.ValidString(s):
		return &Error{s, "is not UTF-8"}
	case strings.Count(s, "/") >= MaxLevels:
		return &Error{s, fmt.Sprintf("has more than %d levels", MaxLevels)}
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return &Error{s, fmt.Sprintf("holds the control character %U", r)}
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
