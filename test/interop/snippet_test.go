package interop_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// snippet returns the code of docs/CLIENTS.md in a language that contains a text. It subscribes to the group a of a
// server, starts with all messages, and reconnects faster.
func snippet(t *testing.T, language, has string, s *server) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/CLIENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(m[1], has) {
			continue
		}
		code := regexp.MustCompile(`(http://127\.0\.0\.1:1234)?(/v1/groups/orders|/v1/events)`).ReplaceAllStringFunc(m[1], func(url string) string {
			if strings.HasSuffix(url, "/v1/events") {
				return s.url("/v1/events?since=all")
			}
			return s.url("/v1/groups/a?since=all")
		})
		return strings.NewReplacer(
			"http://127.0.0.1:1234", s.url(""), `"orders"`, `"a"`, "sleep 1\n", "sleep 0.1\n", "time.Sleep(time.Second)", "time.Sleep(20 * time.Millisecond)",
		).Replace(code)
	}
	t.Fatalf("docs/CLIENTS.md has no %s code with %q", language, has)
	return ""
}
