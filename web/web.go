// Package web has the files that the hub serves to browsers: watchbox.js, the client for pages, and the start
// page. Both use only the public HTTP API, by relative URLs, so that they work wherever the hub is mounted. The
// folder is also the npm package of the client.
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

// policy lets the page use its own scripts, styles and server only, so that the content of a message cannot run
// as code.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// client is the name of the client module.
const client = "watchbox.js"

// mediaTypes has the media types by extension. The system's table may differ.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
}

// file is a file with what its response needs.
type file struct {
	content   []byte
	etag      string
	mediaType string
}

// handler serves files by name, relative to this folder.
type handler map[string]file

// Handler serves the page at any path that ends in /, next to it watchbox.js and, below assets/, the page's
// files. It may be mounted anywhere, and the prefix may be stripped or not. The page's URLs are relative, so a request
// without the final / has to be redirected before.
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

// name returns the file that a path asks for, ignoring any prefix.
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

// refusal is a problem+json answer (RFC 9457), like those of the API.
type refusal struct {
	status int
	body   string
}

var (
	notFound = refusal{http.StatusNotFound,
		`{"title":"Not Found","status":404,"code":"not-found","detail":"there is no such file"}`}
	methodNotAllowed = refusal{http.StatusMethodNotAllowed,
		`{"title":"Method Not Allowed","status":405,"code":"method-not-allowed","detail":"use GET or HEAD"}`}
)

func refuse(w http.ResponseWriter, p refusal) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.status)
	_, _ = w.Write([]byte(p.body)) // an error means that the client has gone
}
