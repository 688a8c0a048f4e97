// Package web has the files that the hub serves to browsers: watchbox.js, the client for pages, and the dashboard.
// Both use only the public HTTP API, by relative URLs, so that they work wherever the hub is mounted. The folder is
// also the npm package of the client.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed index.html links.html watchbox.js assets
var files embed.FS

// policy lets the page use files and calls of its own server only, so that the content of a message cannot run as
// code.
const policy = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// mediaTypes has the media types by extension. The system's table may differ.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",
}

// file is a file and the headers of its response.
type file struct {
	content   []byte
	etag      string
	mediaType string
}

// Files are the files by name, relative to this folder.
type Files map[string]file

// New returns index.html, watchbox.js and the files below assets/ that the page uses. The page's URLs are
// relative: index.html has to be served at a path that ends in /, and the other files next to it. Without the
// dashboard, index.html has only links.
func New(dashboard bool) Files {
	h := Files{}
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
	links := h["links.html"]
	delete(h, "links.html")
	if !dashboard {
		return Files{"index.html": links, "watchbox.js": h["watchbox.js"], "assets/favicon.svg": h["assets/favicon.svg"]}
	}
	return h
}

// Serve answers a GET or HEAD request with the file of a name. Without such a file, it writes nothing and
// returns false.
func (h Files) Serve(w http.ResponseWriter, r *http.Request, name string) bool {
	f, ok := h[name]
	if !ok {
		return false
	}
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Type", f.mediaType)
	header.Set("Content-Security-Policy", policy)
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-cache")
	header.Set("ETag", f.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
	return true
}
