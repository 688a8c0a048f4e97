package group

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckSaysWhatIsWrongWithAName(t *testing.T) {
	for _, c := range []struct{ name, text, why string }{
		{"one level", "foo", ""},
		{"levels", "home/kitchen/temp", ""},
		{"UTF-8", "café/温度/🌡", ""},
		{"spaces and signs", "a b/c:d/e?f&g=h%20/\"\\", ""},
		{"dots within a level", "a.b/.c/...", ""},
		{"the server's own", "$session/x", ""},
		{"the most bytes", strings.Repeat("x", MaxBytes), ""},
		{"the most levels", levels(MaxLevels), ""},

		{"empty", "", "is empty"},
		{"a byte too long", strings.Repeat("x", MaxBytes+1), "has 256 bytes: the limit is 255"},
		{"a level too many", levels(MaxLevels + 1), "has more than 16 levels"},
		{"no UTF-8", "a\xffb", "is not UTF-8"},
		{"a surrogate", "a\xed\xa0\x80", "is not UTF-8"},
		{"a slash in front", "/a", "has an empty level"},
		{"a slash behind", "a/", "has an empty level"},
		{"two slashes", "a//b", "has an empty level"},
		{"a slash alone", "/", "has an empty level"},
		{"dot", "a/./b", "has the level ., which"},
		{"dot dot", "a/..", "has the level .., which"},
		{"dot alone", ".", "has the level ., which"},
		{"LF", "a\nb", "contains the control character U+000A"},
		{"CR", "a\rb", "contains the control character U+000D"},
		{"NUL", "a\x00", "contains the control character U+0000"},
		{"DEL", "a\x7f", "contains the control character U+007F"},
		{"NEL, a control character of two bytes", "a\u0085", "contains the control character U+0085"},
		{"a plus", "a/+", "is a pattern"},
		{"a hash", "a/#", "is a pattern"},
		{"a plus within", "a+b", "is a pattern"},
	} {
		t.Run(c.name, func(t *testing.T) { wantError(t, Check(c.text), c.why) })
	}
}

func TestCheckClientRefusesSystemGroups(t *testing.T) {
	for text, why := range map[string]string{
		"foo":       "",
		"a/$b":      "",
		"$":         "is reserved for the server",
		"$sys":      "is reserved for the server",
		"$sys/#":    "is reserved for the server",
		"a/+":       "is a pattern",
		"":          "is empty",
		"a//$share": "has an empty level",
	} {
		t.Run(text, func(t *testing.T) { wantError(t, CheckClient(text), why) })
	}
}

func TestAnErrorNamesTheText(t *testing.T) {
	var e *Error
	if err := Check("a//b"); !errors.As(err, &e) || e.Text != "a//b" {
		t.Fatalf("got %#v", err)
	}
	if msg := e.Error(); !strings.HasPrefix(msg, `"a//b" has an empty level`) {
		t.Errorf("reads %q", msg)
	}
	long := Check(strings.Repeat("x", 10_000)).Error()
	if len(long) > 200 {
		t.Errorf("repeats a long name in full: %d bytes", len(long))
	}
}

// levels returns a name of n levels.
func levels(n int) string { return strings.Repeat("l/", n-1) + "l" }

// wantError fails unless err says why, or is nil if why is empty.
func wantError(t *testing.T, err error, why string) {
	t.Helper()
	switch {
	case why == "" && err != nil:
		t.Errorf("refused: %v", err)
	case why != "" && err == nil:
		t.Errorf("accepted; want an error that says %q", why)
	case why != "" && !strings.Contains(err.Error(), why):
		t.Errorf("refused with %q; want %q", err, why)
	}
}
