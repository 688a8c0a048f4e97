// Package web is what the hub serves to browsers: watchbox.js, the client for pages, and the page
// that shows a hub at work. Both use nothing but the public HTTP surface, by relative addresses, so
// that they work wherever the hub is mounted. The client is an npm package as it lies here.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed index.html watchbox.js assets
var files embed.FS

// policy lets the page run its own script and style and talk to its own server, and nothing else:
// whatever a message holds, it stays text.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// client is the module that pages import.
const client = "watchbox.js"

// mediaTypes are those of the files, by extension. The system's table may have others.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
}

// file is a file as it is served.
type file struct {
	content   []byte
	etag      string
	mediaType string
}

// handler serves files by their name below this folder.
type handler map[string]file

// Handler returns what serves the page, at a path that ends in /, and next to it watchbox.js and,
// below assets/, the files that the page is made of. Where it is mounted does not matter, and the prefix may be stripped or
// not. The page's addresses are relative: one who asks for it without the / has to be redirected.
func Handler() http.Handler {
	h := handler{}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := files.ReadFile(name)
		sum := sha256.Sum256(content)
		h[name] = file{content, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, mediaTypes[path.Ext(name)]}
		return err
	})
	if err != nil {
		panic("web: " + err.Error()) // the files are part of the program
	}
	return h
}

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		refuse(w, methodNotAllowed)
		return
	}
	f, ok := h[name(r.URL.Path)]
	if !ok {
		refuse(w, notFound)
		return
	}
	header.Set("Content-Type", f.mediaType)
	header.Set("Content-Security-Policy", policy)
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-cache")
	header.Set("ETag", f.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}

// name returns which file a path asks for, whatever stands before it.
func name(urlPath string) string {
	if urlPath == "" || strings.HasSuffix(urlPath, "/") {
		return "index.html"
	}
	if strings.HasSuffix(urlPath, "/"+client) {
		return client
	}
	if i := strings.LastIndex(urlPath, "/assets/"); i >= 0 {
		return urlPath[i+1:]
	}
	return ""
}

// refusal is an answer with a problem (RFC 9457), as the API gives it.
type refusal struct {
	status int
	body   string
}

var (
	notFound = refusal{http.StatusNotFound,
		`{"title":"Not Found","status":404,"code":"not-found","detail":"the page has no such file"}`}
	methodNotAllowed = refusal{http.StatusMethodNotAllowed,
		`{"title":"Method Not Allowed","status":405,"code":"method-not-allowed","detail":"the page is there to be read: use GET or HEAD"}`}
)

func refuse(w http.ResponseWriter, p refusal) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.status)
	_, _ = w.Write([]byte(p.body)) // whoever asked is gone
}
