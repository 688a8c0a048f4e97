package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
)

// Limits for fetching a JSON Web Key Set. In keyfunc, for which jwkset is made, a request with an unknown
// kid waits up to a minute for the next fetch. Here such a request is refused at once.
const (
	refetchAfter = time.Minute      // for an unknown kid
	refreshAfter = 10 * time.Minute // so that a withdrawn key is not trusted for long
	fetchTimeout = 5 * time.Second
	maxKeySet    = 1 << 20 // bytes
)

// keySet is a JSON Web Key Set (RFC 7517, section 5) from a URL or a file. It keeps its keys while its
// source fails.
type keySet struct {
	source string
	remote bool
	now    func() time.Time

	fetching sync.Mutex // one fetch at a time

	mu      sync.RWMutex // guards what follows
	keys    []*setKey
	content []byte    // the JSON of the keys
	changed bool      // the keys were replaced since the last call of takeChange
	asked   time.Time // time of the last fetch
}

// setKey is a key of a set and its kid.
type setKey struct {
	id string
	key
}

func newKeySet(source string, now func() time.Time) *keySet {
	u, err := url.Parse(source)
	remote := err == nil && (u.Scheme == "https" || u.Scheme == "http")
	return &keySet{source: source, remote: remote, now: now}
}

// named returns the keys that may have signed a token with a kid: those with that kid, or all keys if
// the kid is "". For an unknown kid it fetches the set again, at most once a minute.
func (s *keySet) named(ctx context.Context, id string) ([]*setKey, error) {
	if found := s.find(id); len(found) > 0 {
		return found, nil
	}
	// A caller that disconnects must not cancel the fetch: it would be the only one of this minute.
	if err := s.refetch(context.WithoutCancel(ctx), refetchAfter); err != nil {
		return nil, err
	}
	return s.find(id), nil
}

func (s *keySet) find(id string) []*setKey {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if id == "" {
		return s.keys
	}
	var found []*setKey
	for _, k := range s.keys {
		if k.id == id { // keys of different types may share a kid (RFC 7517, section 4.5)
			found = append(found, k)
		}
	}
	return found
}

// refetch reads the source again, unless the last fetch was less than after ago.
func (s *keySet) refetch(ctx context.Context, after time.Duration) error {
	s.fetching.Lock()
	defer s.fetching.Unlock()
	s.mu.Lock()
	now := s.now()
	wait := now.Before(s.asked.Add(after))
	if !wait {
		s.asked = now
	}
	s.mu.Unlock()
	if wait {
		return nil
	}
	return s.load(ctx)
}

// load reads the source and replaces the keys.
func (s *keySet) load(ctx context.Context) error {
	b, err := s.read(ctx)
	if err != nil {
		return fmt.Errorf("jwks %s: %w", s.name(), err)
	}
	keys, err := parseKeySet(b)
	if err != nil {
		return fmt.Errorf("jwks %s: %w", s.name(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes.Equal(b, s.content) {
		return nil
	}
	s.changed = s.keys != nil
	s.keys, s.content = keys, b
	return nil
}

// name returns the source as errors show it, without a password.
func (s *keySet) name() string {
	if u, err := url.Parse(s.source); err == nil && s.remote {
		return u.Redacted()
	}
	return s.source
}

// takeChange reports whether the keys were replaced since the last call.
func (s *keySet) takeChange() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.changed
	s.changed = false
	return changed
}

// keySetClient fetches key sets.
var keySetClient = &http.Client{CheckRedirect: checkRedirect}

// checkRedirect refuses a redirect from https to http, where anyone on the way could replace the keys.
func checkRedirect(r *http.Request, via []*http.Request) error {
	switch {
	case via[0].URL.Scheme == "https" && r.URL.Scheme != "https":
		return errors.New("the redirect leads away from https")
	case len(via) >= 5:
		return errors.New("there are too many redirects")
	}
	return nil
}

func (s *keySet) read(ctx context.Context) ([]byte, error) {
	if !s.remote {
		return os.ReadFile(s.source)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.source, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := keySetClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // it is only read
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server responded with %s", res.Status)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxKeySet+1))
	if err == nil && len(b) > maxKeySet {
		err = fmt.Errorf("the response has more than %d bytes", maxKeySet)
	}
	return b, err
}

// parseKeySet returns the public keys of a set. It skips secrets, keys for encryption, and keys of
// unknown types.
func parseKeySet(b []byte) ([]*setKey, error) {
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("not a JSON Web Key Set: %w", err)
	}
	var keys []*setKey
	for _, m := range set.Keys {
		if m.KTY == jwkset.KtyOct || m.USE == jwkset.UseEnc {
			continue
		}
		parsed, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{SkipAll: true})
		if err != nil {
			continue
		}
		k, err := keyOf(parsed.Key())
		if err != nil {
			continue
		}
		if m.ALG != "" {
			if !k.allows(m.ALG.String()) {
				continue
			}
			k.algorithms = []string{m.ALG.String()}
		}
		keys = append(keys, &setKey{m.KID, *k})
	}
	if len(keys) == 0 {
		return nil, errors.New("the set has no key for RS256, PS256, ES256 or EdDSA")
	}
	return keys, nil
}
