//go:build unix

package watchbox_test

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocs runs the sh blocks of each page in one shell. A json block is the output of the sh block before it;
// ids, uids and times may differ.
func TestDocs(t *testing.T) {
	for _, page := range []string{"docs/PUBLISHING.md", "docs/SESSIONS.md"} {
		t.Run(page, func(t *testing.T) {
			_, addr := serve(t)
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			script, want := transcript(strings.ReplaceAll(string(text), "127.0.0.1:1234", addr))
			t.Chdir(t.TempDir())
			out, wait := command(t, "bash", "-ec", script)
			got, err := io.ReadAll(out)
			if err != nil {
				t.Fatal(err)
			}
			if err := wait(); err != nil {
				t.Error(err)
			}
			if got, want := anonymous(string(got)), anonymous(want); got != want {
				t.Errorf("the page prints\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// transcript returns the sh blocks of a page and their expected output.
func transcript(page string) (script, want string) {
	blocks := regexp.MustCompile("(?s)```(sh|json)\n(.*?)```\n").FindAllStringSubmatch(page, -1)
	for _, b := range blocks {
		if b[1] == "json" {
			want += b[2]
			continue
		}
		script += b[2]
	}
	return script + "kill %% 2> /dev/null || true\n", want
}

// anonymous replaces values that differ between runs, and removes line ends.
func anonymous(s string) string {
	for pattern, name := range map[string]string{
		`"[0-9a-z]+-([0-9]+)"`:                      `"epoch-$1"`,
		`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`: "uid",
		`20[0-9-]+T[0-9:.]+Z`:                       "time",
		`\n`:                                        "", // problems end without one
	} {
		s = regexp.MustCompile(pattern).ReplaceAllString(s, name)
	}
	return s
}
