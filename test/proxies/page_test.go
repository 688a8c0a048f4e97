//go:build unix

package proxies_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// block returns the code block of docs/DEPLOYING.md that begins with the name of a file and contains a text.
func block(t *testing.T, name, has string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/DEPLOYING.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```[a-z]+\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if strings.HasPrefix(m[1], "# "+name+"\n") && strings.Contains(m[1], has) {
			return m[1]
		}
	}
	t.Fatalf("docs/DEPLOYING.md has no block for %s with %q", name, has)
	return ""
}

// change is a replacement in a configuration. The test fails if there is nothing to replace.
type change struct{ old, new string }

func edit(t *testing.T, text string, changes ...change) string {
	t.Helper()
	for _, c := range changes {
		if !strings.Contains(text, c.old) {
			t.Fatalf("the configuration has no %q:\n%s", c.old, text)
		}
		text = strings.ReplaceAll(text, c.old, c.new)
	}
	return text
}
