package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/duration"
)

// tokenJSON is an API token in an answer. Token is set only in the answer that creates it.
type tokenJSON struct {
	Token     string     `json:"token,omitempty"`
	Name      string     `json:"name"`
	Subscribe []string   `json:"subscribe"`
	Publish   []string   `json:"publish"`
	Admin     bool       `json:"admin"`
	Created   time.Time  `json:"created"`
	Expires   *time.Time `json:"expires,omitempty"`
}

func tokenToJSON(t *access.APIToken) tokenJSON {
	return tokenJSON{"", t.Name, append([]string{}, t.Subscribe...), append([]string{}, t.Publish...), t.Admin, t.Created, t.Expires}
}

// tokenObject is an API token to be created.
type tokenObject struct {
	Name      string   `json:"name"`
	Subscribe []string `json:"subscribe"`
	Publish   []string `json:"publish"`
	Admin     bool     `json:"admin"`
	Expires   string   `json:"expires"`
}

// validities are the times for which an API token may be valid.
var validities = duration.Range{Least: time.Second, Most: 520 * 7 * 24 * time.Hour}

// maxToken is the largest description of an API token, in bytes.
const maxToken = 64 << 10

// tokens lists the API tokens.
func (a *api) tokens(w http.ResponseWriter, r *http.Request, _ *access.Grant) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	list, err := a.hub.Tokens()
	if err != nil {
		return err
	}
	out := make([]tokenJSON, len(list))
	for i := range list {
		out[i] = tokenToJSON(&list[i])
	}
	return writeValue(w, struct {
		Tokens []tokenJSON `json:"tokens"`
	}{out})
}

// createToken creates an API token. The answer is the only one that has it.
func (a *api) createToken(w http.ResponseWriter, r *http.Request, _ *access.Grant) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	var in tokenObject
	err := a.readObject(w, r, shape{"a token", maxToken, `a token is an object such as {"name":"phone","subscribe":["home/#"],"publish":["home/phone"],"admin":false,"expires":"720h"}`}, &in)
	if err != nil {
		return err
	}
	var validity time.Duration
	if in.Expires != "" {
		if validity, err = validities.Parse(in.Expires); err != nil {
			return fmt.Errorf("%w: expires: %w", access.ErrTokenRefused, err)
		}
	}
	t := access.APIToken{Name: in.Name, Subscribe: in.Subscribe, Publish: in.Publish, Admin: in.Admin}
	token, err := a.hub.CreateToken(r.Context(), &t, validity)
	if err != nil {
		return err
	}
	out := tokenToJSON(&t)
	out.Token = token
	body, err := json.Marshal(out)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusCreated, append(body, '\n'))
	return nil
}

// revokeToken removes an API token.
func (a *api) revokeToken(w http.ResponseWriter, r *http.Request, _ *access.Grant) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	if err := a.hub.RevokeToken(r.Context(), chi.URLParam(r, "name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
