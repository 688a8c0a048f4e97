package remote

import (
	"strings"
	"testing"
)

func TestAddress(t *testing.T) {
	for address, want := range map[string]string{
		"http://127.0.0.1:1234":      "http://127.0.0.1:1234",
		"HTTP://127.0.0.1:1234/":     "http://127.0.0.1:1234",
		"https://example.org/hub/":   "https://example.org/hub",
		"https://example.org":        "https://example.org",
		"http://anna:x@example.org/": "http://anna:x@example.org",
		"localhost:8080":             "http://localhost:8080",
		"127.0.0.1:1234":             "http://127.0.0.1:1234",
		"[::1]:1234":                 "http://[::1]:1234",
		"example.org:80/hub":         "http://example.org:80/hub",
		"":                           "",
		"localhost":                  "",
		":8080":                      "",
		"8080":                       "",
		"localhost:http":             "",
		"localhost:":                 "",
		"http://localhost:":          "",
		"http://localhost:99999":     "",
		"http://":                    "",
		"http:///v1":                 "",
		"ftp://localhost":            "",
		"://localhost:1234":          "",
		"http://local host":          "",
		"http://localhost:1234?x=1":  "",
		"http://localhost:1234#x":    "",
		"unix:/run/hub.sock":         "",
	} {
		got, err := Address(address)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v, want %q", address, got, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), "write HOST:PORT, or a URL such as http://127.0.0.1:1234") {
			t.Errorf("%q: the error %q does not say what to write", address, err)
		}
	}
}
