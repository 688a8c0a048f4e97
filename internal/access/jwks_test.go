package access_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/watchbox-go/watchbox/internal/access"
)

// newKeys returns keys by kid, and a function that returns the set of some of them.
func newKeys(t *testing.T, ids ...string) (keys map[string]ed25519.PrivateKey, only func(...string) []byte) {
	t.Helper()
	keys = map[string]ed25519.PrivateKey{}
	for _, id := range ids {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[id] = k
	}
	return keys, func(ids ...string) []byte {
		some := map[string]ed25519.PrivateKey{}
		for _, id := range ids {
			some[id] = keys[id]
		}
		return jwks(t, some)
	}
}

// Otherwise anyone could keep the hub from learning new keys: with a token of an unknown kid, once a minute.
func TestACallerThatDisconnectsDoesNotCancelTheFetchOfNewKeys(t *testing.T) {
	keys, only := newKeys(t, "one", "two")
	c, i := newClock(), newIssuer(t)
	i.serve(only("one"))
	a := open(t, access.Options{Now: c.now, JWT: &access.JWT{KeySet: i.URL}})
	i.serve(only("one", "two"))
	c.add(61 * time.Second)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = a.Authenticate(gone, sign(t, jwt.SigningMethodEdDSA, keys["one"], good(c), "kid", "unknown"))
	if _, err := a.Authenticate(t.Context(), sign(t, jwt.SigningMethodEdDSA, keys["two"], good(c), "kid", "two")); err != nil {
		t.Error(err)
	}
}

// The set was fetched because of a token with an unknown kid. Tokens of the withdrawn key that were verified before are refused, too.
func TestATokenOfAWithdrawnKeyIsRefusedHoweverTheSetWasFetched(t *testing.T) {
	keys, only := newKeys(t, "one", "two", "three")
	c, i := newClock(), newIssuer(t)
	i.serve(only("one", "two"))
	a := open(t, access.Options{Now: c.now, JWT: &access.JWT{KeySet: i.URL}})
	token := sign(t, jwt.SigningMethodEdDSA, keys["one"], good(c), "kid", "one")
	if _, err := a.Authenticate(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	i.serve(only("two"))
	c.add(61 * time.Second)
	_, _ = a.Authenticate(t.Context(), sign(t, jwt.SigningMethodEdDSA, keys["three"], good(c), "kid", "three"))
	a.Refresh(t.Context()) // run does this every second
	if _, err := a.Authenticate(t.Context(), token); !errors.Is(err, access.ErrInvalid) {
		t.Errorf("the error is %v, want %v", err, access.ErrInvalid)
	}
}

// The source may be in trouble or hostile. Each problem is one line, within a bounded time and memory.
func TestAKeySetFromABrokenSourceIsRefused(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]http.HandlerFunc{
		"hangs": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"stops midway": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[`))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) },
		"is huge": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		},
		"is HTML":       func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"has null keys": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":null}`)) },
		"has broken keys": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[{"kty":"RSA","n":"!","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`))
		},
		"is 500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := httptest.NewServer(serve)
			t.Cleanup(func() { source.CloseClientConnections(); source.Close() })
			address := strings.Replace(source.URL, "://", "://user:pass-word@", 1)
			_, err := access.New(t.Context(), access.Options{JWT: &access.JWT{KeySet: address}})
			if err == nil || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "pass-word") || !strings.Contains(err.Error(), "127.0.0.1") {
				t.Errorf("the error is %v, want one line with the address and without the password", err)
			}
		})
	}
}

func TestAKeySetWhoseSourceHangsDoesNotDelayAChangeOfTheTokenFile(t *testing.T) {
	t.Parallel()
	_, only := newKeys(t, "one")
	var ready, hanging atomic.Bool
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ready.Load() {
			_, _ = w.Write(only("one"))
			return
		}
		hanging.Store(true)
		defer hanging.Store(false)
		<-r.Context().Done()
	}))
	t.Cleanup(source.Close)
	c, path := newClock(), filepath.Join(t.TempDir(), "tokens.json")
	mint(t, path, access.APIToken{Name: "first"})
	a := open(t, access.Options{Now: c.now, TokenFile: path, JWT: &access.JWT{KeySet: source.URL}})
	ready.Store(true)
	for i := range 5 { // a slow machine may need several attempts
		for late := time.Now().Add(time.Minute); !hanging.Load(); runtime.Gosched() {
			if c.add(11 * time.Minute); time.Now().After(late) {
				t.Fatal("the key set is not fetched again")
			}
		}
		began := time.Now()
		token := mint(t, path, access.APIToken{Name: fmt.Sprint("token", i)})
		for hanging.Load() {
			if _, err := a.Authenticate(t.Context(), token); err == nil && time.Since(began) < 4*time.Second { // the fetch ends after 5 s
				return
			}
			runtime.Gosched()
		}
	}
	t.Error("a new token was never noticed while the source hung")
}

func TestAKeySetIsNotFetchedOverPlainHTTPAfterHTTPS(t *testing.T) {
	for from, refused := range map[string]bool{"https://a.test": true, "http://a.test": false} {
		first, second := httptest.NewRequest("GET", from, nil), httptest.NewRequest("GET", "http://a.test/keys", nil)
		if err := access.CheckRedirect(second, []*http.Request{first}); (err != nil) != refused {
			t.Errorf("from %s: %v", from, err)
		}
	}
}
