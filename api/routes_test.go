package api

import (
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store/memory"
)

func TestRoutesMatchTheContract(t *testing.T) {
	text, err := os.ReadFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var contract struct{ Paths map[string]map[string]any }
	if err := yaml.Unmarshal(text, &contract); err != nil {
		t.Fatal(err)
	}
	var documented, routed []string
	for path, methods := range contract.Paths {
		for _, rest := range []string{"{group}", "{filter}", "{file}"} {
			path = strings.Replace(path, rest, "*", 1)
		}
		for method := range methods {
			if method != "parameters" && method != "head" { // a path with GET has HEAD
				documented = append(documented, strings.ToUpper(method)+" "+path)
			}
		}
	}
	h, err := hub.New(memory.New(memory.Options{MaxMemory: 16 << 20}), hub.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	for _, r := range (&api{hub: h}).routes() {
		routed = append(routed, r.method+" "+r.pattern)
	}
	slices.Sort(documented)
	slices.Sort(routed)
	if !slices.Equal(documented, routed) {
		t.Errorf("openapi.yaml has\n%q, routes.go has\n%q", documented, routed)
	}
}
