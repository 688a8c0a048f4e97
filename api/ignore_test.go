package api

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestNoParameterOfOpenAPIIsIgnored compares queryParameters with openapi.yaml.
func TestNoParameterOfOpenAPIIsIgnored(t *testing.T) {
	spec, err := os.ReadFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	matches := regexp.MustCompile(`name: (\S+)\n\s+in: query`).FindAllSubmatch(spec, -1)
	if len(matches) < 10 {
		t.Fatalf("openapi.yaml has %d query parameters", len(matches))
	}
	for _, m := range matches {
		if name := string(m[1]); !slices.Contains(queryParameters, name) || withoutParameters(name+"=x", []string{"*"}) == "" {
			t.Errorf("%s would be ignored", name)
		}
	}
}
