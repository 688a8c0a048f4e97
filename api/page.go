package api

import (
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/watchbox-go/watchbox/internal/access"
)

// file answers with a file of the dashboard.
func (a *api) file(w http.ResponseWriter, r *http.Request, name string) error {
	if !a.opts.Web.Serve(w, r, name) {
		return notFound(w, r, nil)
	}
	return nil
}

// asset serves a file that the dashboard needs.
func (a *api) asset(w http.ResponseWriter, r *http.Request, _ *access.Grant) error {
	name, err := rest(r)
	if err != nil {
		return err
	}
	return a.file(w, r, "assets/"+name)
}

// browserClient serves the client for pages.
func (a *api) browserClient(w http.ResponseWriter, r *http.Request, _ *access.Grant) error {
	return a.file(w, r, "watchbox.js")
}

// page serves the dashboard. The page's links are relative, so a request without the / at the end of the
// mount path is redirected.
func (a *api) page(w http.ResponseWriter, r *http.Request, _ *access.Grant) error {
	asked, err := url.ParseRequestURI(r.RequestURI) // r.URL may have been stripped
	if err != nil || asked.Path == "" || strings.HasSuffix(asked.Path, "/") {
		return a.file(w, r, "index.html")
	}
	to := url.URL{Path: "./" + path.Base(asked.Path) + "/", RawQuery: asked.RawQuery}
	w.Header().Set("Location", to.String())
	w.WriteHeader(http.StatusPermanentRedirect)
	return nil
}
