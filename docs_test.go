//go:build unix

package watchbox_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/internal/freeport"
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

// TestDeploying runs the commands of docs/DEPLOYING.md that create tokens, and starts a hub with each of its settings.
func TestDeploying(t *testing.T) {
	const page = "docs/DEPLOYING.md"
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "watchbox"), "./cmd/watchbox").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	here := func(text string) string {
		return strings.NewReplacer("/var/lib/watchbox", dir, "/run/watchbox", dir,
			"LISTEN=:443", "LISTEN="+freeport.Addr(t), "REDIRECT=:80", "REDIRECT="+freeport.Addr(t)).Replace(text)
	}
	create := "sudo() { shift 2; \"$@\"; }\n" + exampleIn(t, page, "sh", "create admin") + exampleIn(t, page, "sh", "thermometer")
	if out, err := exec.Command("bash", "-ec", here(create)).CombinedOutput(); err != nil || strings.Count(string(out), "wb_") != 5 {
		t.Errorf("%v: %s", err, out)
	}
	for _, has := range []string{"ACME_DOMAIN", "TRUSTED_PROXY"} {
		settings := here(exampleIn(t, page, "sh", has))
		if has == "ACME_DOMAIN" {
			settings += "WATCHBOX_ACME_URL=https://127.0.0.1:1/\n" // test/acme has a real one
		}
		out, _ := command(t, "sh", "-c", "set -a\n"+settings+"exec watchbox serve --data-dir "+dir+"/"+has+" 2>&1")
		expect(t, bufio.NewReader(out), "watchbox listens on")
	}
}

// TestLinks checks the links of all pages to files and to headings.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "README.md", "CHANGELOG.md") {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(read(t, page), -1) {
			file, heading, _ := strings.Cut(m[1], "#")
			if strings.Contains(file, "://") {
				continue
			}
			to := page
			if file != "" {
				to = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if heading != "" && !slices.Contains(headings(read(t, to)), heading) {
				t.Errorf("%s: %s has no heading #%s", page, to, heading)
			}
		}
	}
}

func read(t *testing.T, page string) string {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// headings returns the anchors of a page's headings, as GitHub makes them.
func headings(page string) (list []string) {
	for _, m := range regexp.MustCompile("(?m)^#+ (.*)$").FindAllStringSubmatch(page, -1) {
		text := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		list = append(list, strings.ReplaceAll(text, " ", "-"))
	}
	return list
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
