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
	if !New(true).Serve(w, r, name) {
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

// eachFile calls f with the name and text of each file of the dashboard.
func eachFile(t *testing.T, f func(name, text string)) {
	t.Helper()
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == "links.html" {
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
	for _, name := range []string{"", "/", "assets", "assets/", "assets/none.js", "web.go", "assets/../web.go", "/index.html", "links.html", "assets/app.js/"} {
		w := httptest.NewRecorder()
		if New(true).Serve(w, httptest.NewRequest("GET", "/", nil), name) || len(w.Header()) > 0 || w.Body.Len() > 0 {
			t.Errorf("%q is answered with %v %s", name, w.Header(), w.Body)
		}
	}
}

func TestThePolicyAllowsNoInlineCodeAndNoForeignSources(t *testing.T) {
	if !strings.HasPrefix(policy, "default-src 'self';") {
		t.Errorf("the policy does not start with default-src self: %s", policy)
	}
	if m := regexp.MustCompile(`unsafe|\*|https?:|data:|blob:`).FindString(policy); m != "" {
		t.Errorf("the policy has %q: %s", m, policy)
	}
	for _, directive := range []string{"object-src 'none'", "require-trusted-types-for 'script'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
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
	for _, dashboard := range []bool{true, false} {
		w := httptest.NewRecorder()
		if !New(dashboard).Serve(w, httptest.NewRequest("GET", "/", nil), "index.html") {
			t.Fatal("there is no page")
		}
		linksOnlyToExistingFiles(t, New(dashboard), w.Body.String())
	}
}

func linksOnlyToExistingFiles(t *testing.T, files Files, page string) {
	t.Helper()
	list := regexp.MustCompile(`\b(?:src|href|action|srcset|poster)\s*=\s*"([^"]*)"`).FindAllStringSubmatch(page, -1)
	if len(list) < 5 {
		t.Fatalf("only %d addresses found", len(list))
	}
	for _, m := range list {
		switch address := m[1]; {
		case strings.HasPrefix(address, "#/"): // a page of the dashboard
		case !regexp.MustCompile(`^[a-z]`).MatchString(address) || strings.Contains(address, ":"):
			t.Errorf("%q is not relative to the page", address)
		case strings.HasPrefix(address, "assets/"):
			if _, ok := files[address]; !ok {
				t.Errorf("%q does not exist", address)
			}
		case address != "watchbox.js" && address != "openapi.yaml" && address != "metrics" && address != "readyz" && address != "v1/groups":
			t.Errorf("%q is not a path of the HTTP API", address)
		}
	}
}

// The files contain nothing that the policy would refuse, and never parse data as HTML or script.
func TestFilesHaveNoInlineCodeAndNeverParseDataAsHTML(t *testing.T) {
	never := map[string]*regexp.Regexp{
		".html": regexp.MustCompile(`(?i)<style|\sstyle\s*=|\son[a-z]+\s*=|javascript:|<script(?:\s+[^>]*)?>\s*[^<\s]`),
		".txt":  regexp.MustCompile(`<`),
		".js": regexp.MustCompile(`(?i)innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|setHTML` +
			`|DOMParser|\beval\b|new Function|https?://|cssText|setAttribute\("(?:style|on)`),
		".css": regexp.MustCompile(`(?i)@import|url\(|https?://`),
		".svg": regexp.MustCompile(`(?i)<script|<style|\son[a-z]+\s*=|href`),
	}
	eachFile(t, func(name, text string) {
		re := never[path.Ext(name)]
		if re == nil || mediaTypes[path.Ext(name)] == "" {
			t.Fatalf("%s: files of this type have no rule or no media type here", name)
		}
		if name == "assets/vendor/uplot/uPlot.esm.js" { // has addresses in comments, and is tested in a browser
			text = regexp.MustCompile(`https?://`).ReplaceAllString(text, "")
		}
		if m := re.FindString(text); m != "" {
			t.Errorf("%s has %q", name, m)
		}
	})
}

func TestWithoutTheDashboardThePageHasOnlyLinks(t *testing.T) {
	files := New(false)
	w := httptest.NewRecorder()
	files.Serve(w, httptest.NewRequest("GET", "/", nil), "index.html")
	if page := w.Body.String(); !strings.Contains(page, `href="openapi.yaml"`) || strings.Contains(page, "<script") {
		t.Errorf("the page is %s", page)
	}
	if w.Header().Get("Content-Security-Policy") != policy {
		t.Errorf("the policy is %q", w.Header().Get("Content-Security-Policy"))
	}
	for _, name := range []string{"assets/app.js", "assets/pages/live.js", "links.html"} {
		if files.Serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), name) {
			t.Errorf("%s is served", name)
		}
	}
	if !files.Serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), "watchbox.js") {
		t.Error("watchbox.js is not served")
	}
}
