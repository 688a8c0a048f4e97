package api

import (
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/watchbox-go/watchbox/internal/access"
)

// page serves the start page. The page's links are relative, so a request that lacks the / at the end
// of the mount path is redirected.
func (a *api) page(w http.ResponseWriter, r *http.Request, _ *access.Grant) error {
	asked, err := url.ParseRequestURI(r.RequestURI) // r.URL may have been stripped
	if err != nil || asked.Path == "" || strings.HasSuffix(asked.Path, "/") {
		a.opts.Web.ServeHTTP(w, r)
		return nil
	}
	to := url.URL{Path: "./" + path.Base(asked.Path) + "/", RawQuery: asked.RawQuery}
	w.Header().Set("Location", to.String())
	w.WriteHeader(http.StatusPermanentRedirect)
	return nil
}
