package watchbox_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/watchbox-go/watchbox"

// layout is the table of docs/ARCHITECTURE.md: the packages of this module that each package may import.
var layout = map[string]string{
	"cmd/watchbox":             ". internal/access internal/duration internal/fallback internal/origin internal/remote sse store store/disk",
	"client":                   "internal/duration internal/fallback internal/origin internal/remote sse",
	"examples/chat":            ".",
	"test/proxies":             "",
	".":                        "api internal/access internal/duration internal/group internal/hub internal/listen internal/session mqtt store store/disk store/jetstream store/memory store/tiered web",
	"api":                      "internal/access internal/delivery internal/duration internal/group internal/hub internal/latency internal/session sse store",
	"mqtt":                     "internal/access internal/cursor internal/delivery internal/duration internal/group internal/hub internal/session sse store",
	"internal/cursor":          "store",
	"internal/cursortest":      "internal/cursor internal/leak store",
	"internal/hub":             "internal/access internal/cursor internal/delivery internal/duration internal/group internal/latency internal/session sse store",
	"internal/delivery":        "internal/group internal/latency sse store",
	"internal/session":         "internal/access internal/group",
	"internal/access":          "internal/group",
	"internal/duration":        "",
	"internal/fallback":        "",
	"internal/group":           "",
	"store":                    "internal/duration internal/group",
	"store/disk":               "internal/duration internal/group store",
	"store/memory":             "internal/group store",
	"store/tiered":             "internal/group store store/disk store/memory",
	"store/jetstream":          "internal/group store store/memory",
	"store/storetest":          "internal/group internal/leak store",
	"internal/listen":          "sse",
	"internal/listen/certtest": "",
	"internal/origin":          "",
	"internal/remote":          "",
	"internal/leak":            "",
	"internal/latency":         "",
	"internal/sharedtest":      "internal/group store store/memory",
	"internal/freeport":        "",
	"internal/sparse":          "store store/memory",
	"sse":                      "internal/duration internal/origin",
	"web":                      "",
}

func TestImportsFollowTheLayout(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}:{{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		pkg, imports, _ := strings.Cut(strings.TrimSpace(line), ":")
		allowed, ok := layout[short(pkg)]
		if !ok {
			t.Errorf("%s is not in the table", pkg)
		}
		seen++
		for _, imp := range strings.Fields(imports) {
			if strings.HasPrefix(imp, module) && !slices.Contains(strings.Fields(allowed), short(imp)) {
				t.Errorf("%s imports %s", short(pkg), short(imp))
			}
		}
	}
	if seen < len(layout) {
		t.Errorf("the table has %d packages, there are %d", len(layout), seen)
	}
}

// TestRequiredPackagesAreUsed ignores imports of tests.
func TestRequiredPackagesAreUsed(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	used := strings.Fields(string(out))
	for _, p := range []string{"github.com/go-chi/chi/v5", "github.com/r3labs/sse/v2", "github.com/go-chi/httplog/v3", "github.com/google/uuid"} {
		if !slices.Contains(used, p) {
			t.Errorf("no package imports %s", p)
		}
	}
}

func TestOneFileImportsR3labs(t *testing.T) {
	out, err := exec.Command("git", "grep", "-l", `"github.com/r3labs/sse/v2"`, "--", "*.go", ":!*_test.go", ":!bench", ":!test").Output()
	if err != nil {
		t.Fatal(err)
	}
	if files := strings.Fields(string(out)); len(files) != 1 {
		t.Errorf("files that import r3labs/sse: %v", files)
	}
}

// short is a package's path within the module.
func short(pkg string) string {
	if pkg == module {
		return "."
	}
	return strings.TrimPrefix(pkg, module+"/")
}
