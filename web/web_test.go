package web

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
)

// get requests a file. header is the name and value of a request header, if any.
func get(t *testing.T, method, name string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, "/", nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	if !New().Serve(w, r, name) {
		t.Errorf("there is no %s", name)
	}
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eachFile calls f with the name and text of each file that is served.
func eachFile(t *testing.T, f func(name, text string)) {
	t.Helper()
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := files.ReadFile(name)
		if err == nil {
			f(name, string(b))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEachFileIsServedWithAStrictHeader(t *testing.T) {
	eachFile(t, func(name, text string) {
		r := get(t, "GET", name)
		if r.StatusCode != http.StatusOK || body(t, r) != text {
			t.Errorf("%s: status %d", name, r.StatusCode)
		}
		for header, want := range map[string]string{
			"Content-Type":            mediaTypes[path.Ext(name)],
			"Content-Security-Policy": policy,
			"X-Content-Type-Options":  "nosniff",
			"Referrer-Policy":         "no-referrer",
			"Cache-Control":           "no-cache",
		} {
			if got := r.Header.Get(header); got != want || got == "" {
				t.Errorf("%s: %s is %q, want %q", name, header, got, want)
			}
		}
	})
}

func TestOtherNamesAreNotServed(t *testing.T) {
	for _, name := range []string{"", "/", "assets", "assets/", "assets/none.js", "web.go", "assets/../web.go", "/index.html", "assets/start.js/"} {
		w := httptest.NewRecorder()
		if New().Serve(w, httptest.NewRequest("GET", "/", nil), name) || len(w.Header()) > 0 || w.Body.Len() > 0 {
			t.Errorf("%q is answered with %v %s", name, w.Header(), w.Body)
		}
	}
}

func TestThePolicyAllowsNoInlineCodeAndNoForeignSources(t *testing.T) {
	if !strings.HasPrefix(policy, "default-src 'none';") {
		t.Errorf("the policy does not start with default-src none: %s", policy)
	}
	if m := regexp.MustCompile(`unsafe|\*|https?:|data:|blob:`).FindString(policy); m != "" {
		t.Errorf("the policy has %q: %s", m, policy)
	}
	for _, directive := range []string{"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, directive) { // default-src does not cover these
			t.Errorf("the policy lacks %s", directive)
		}
	}
}

func TestAFileWithAMatchingETagIsNotSentAgain(t *testing.T) {
	tags := map[string]string{}
	eachFile(t, func(name, _ string) {
		etag := get(t, "GET", name).Header.Get("ETag")
		if other, ok := tags[etag]; ok || len(etag) < 10 {
			t.Errorf("%s has the ETag %s, as has %q", name, etag, other)
		}
		tags[etag] = name
		r := get(t, "GET", name, "If-None-Match", etag)
		if b := body(t, r); r.StatusCode != http.StatusNotModified || b != "" {
			t.Errorf("%s again: status %d, %d bytes", name, r.StatusCode, len(b))
		}
		if r := get(t, "GET", name, "If-None-Match", `"other"`); r.StatusCode != http.StatusOK {
			t.Errorf("%s after a change: status %d", name, r.StatusCode)
		}
	})
}

func TestHEADIsGETWithoutTheBody(t *testing.T) {
	head, full := get(t, "HEAD", "index.html"), get(t, "GET", "index.html")
	if b := body(t, head); head.StatusCode != http.StatusOK || b != "" {
		t.Errorf("status %d, %d bytes", head.StatusCode, len(b))
	}
	for name := range full.Header {
		if head.Header.Get(name) != full.Header.Get(name) {
			t.Errorf("%s is %q, want %q", name, head.Header.Get(name), full.Header.Get(name))
		}
	}
}

func TestThePageLinksOnlyToExistingFilesByRelativeURLs(t *testing.T) {
	page := body(t, get(t, "GET", "index.html"))
	list := regexp.MustCompile(`\b(?:src|href|action|srcset|poster)\s*=\s*"([^"]*)"`).FindAllStringSubmatch(page, -1)
	if len(list) < 5 {
		t.Fatalf("only %d addresses found", len(list))
	}
	for _, m := range list {
		switch address := m[1]; {
		case !regexp.MustCompile(`^[a-z]`).MatchString(address) || strings.Contains(address, ":"):
			t.Errorf("%q is not relative to the page", address)
		case strings.HasPrefix(address, "assets/"):
			if r := get(t, "GET", address); r.StatusCode != http.StatusOK {
				t.Errorf("%q: status %d", address, r.StatusCode)
			}
		case address != "openapi.yaml" && address != "metrics" && address != "readyz" && address != "v1/groups":
			t.Errorf("%q is not a path of the HTTP API", address)
		}
	}
}

// The files contain nothing that the policy would refuse, and never parse data as HTML or script.
func TestFilesHaveNoInlineCodeAndNeverParseDataAsHTML(t *testing.T) {
	never := map[string]*regexp.Regexp{
		".html": regexp.MustCompile(`(?i)<style|\sstyle\s*=|\son[a-z]+\s*=|javascript:|<script(?:\s+[^>]*)?>\s*[^<\s]`),
		".js": regexp.MustCompile(`(?i)innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|setHTML` +
			`|DOMParser|\beval\b|new Function|https?://|\.style\b`),
		".css": regexp.MustCompile(`(?i)@import|url\(|https?://`),
		".svg": regexp.MustCompile(`(?i)<script|<style|\son[a-z]+\s*=|href`),
	}
	eachFile(t, func(name, text string) {
		re := never[path.Ext(name)]
		if re == nil || mediaTypes[path.Ext(name)] == "" {
			t.Fatalf("%s: files of this type have no rule or no media type here", name)
		}
		if m := re.FindString(text); m != "" {
			t.Errorf("%s has %q", name, m)
		}
	})
}
