package api

import (
	"net/http"

	"github.com/watchbox-go/watchbox/internal/access"
)

// spec answers with openapi.yaml.
func (a *api) spec(w http.ResponseWriter, _ *http.Request, _ *access.Grant) error {
	w.Header().Set("Content-Type", "application/yaml") // RFC 9512
	w.Header()["X-Content-Type-Options"] = noSniff
	w.WriteHeader(http.StatusOK) // see explicit
	_, _ = w.Write(a.opts.Spec)
	return nil
}

// healthz reports that the process answers.
func (a *api) healthz(w http.ResponseWriter, _ *http.Request, _ *access.Grant) error {
	writeJSON(w, http.StatusOK, []byte(`{"status":"ok"}`+"\n"))
	return nil
}

// readyz reports whether the hub accepts messages and subscribers.
func (a *api) readyz(w http.ResponseWriter, _ *http.Request, _ *access.Grant) error {
	if err := a.hub.Ready(); err != nil {
		p := problemOf(err)
		if p == nil {
			return err
		}
		p.status = http.StatusServiceUnavailable // also for a full store, since this call stores nothing
		return p
	}
	writeJSON(w, http.StatusOK, []byte(`{"status":"ready"}`+"\n"))
	return nil
}
