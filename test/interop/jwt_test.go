package interop_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/watchbox-go/watchbox"
)

// vector is a JWT made by the npm package jose, and the file that has its key.
type vector struct{ Key, Set, Code, Token string }

// vectors are made by testdata/jwt.mjs.
type vectors struct {
	folder            string
	Accepted, Refused map[string]vector
	Weak              []string // key files
}

func makeVectors(t *testing.T) *vectors {
	t.Helper()
	v := &vectors{folder: t.TempDir()}
	out, err := exec.Command("node", "testdata/jwt.mjs", v.folder).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, v); err != nil {
		t.Fatal(err)
	}
	if len(v.Accepted) < 16 || len(v.Refused) < 50 || len(v.Weak) < 6 {
		t.Fatalf("only %d, %d and %d vectors", len(v.Accepted), len(v.Refused), len(v.Weak))
	}
	return v
}

// hubs are hubs by the file of their key.
type hubs struct {
	t  *testing.T
	v  *vectors
	by map[string]*server
}

func (h *hubs) with(x vector) *server {
	name := x.Key + x.Set
	if h.by[name] == nil {
		j := watchbox.JWT{Issuer: "https://issuer.test", Audience: "hub"}
		if x.Key != "" {
			j.Keys = []string{filepath.Join(h.v.folder, x.Key)}
		} else {
			source := httptest.NewServer(http.FileServer(http.Dir(h.v.folder)))
			h.t.Cleanup(source.Close)
			j.KeySet = source.URL + "/" + x.Set
		}
		h.by[name] = serve(h.t, watchbox.WithJWT(j))
	}
	return h.by[name]
}

// present sends a request with a token, and returns the status and the code of the answer.
func present(t *testing.T, s *server, method, path, token string) (status int, code string) {
	t.Helper()
	r, err := http.NewRequest(method, s.url(path), strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var p struct{ Code string }
	_ = json.NewDecoder(resp.Body).Decode(&p) // a success has no code
	return resp.StatusCode, p.Code
}

func TestJWTsOfAnotherImplementation(t *testing.T) {
	v := makeVectors(t)
	h := &hubs{t, v, map[string]*server{}}
	for name, x := range v.Accepted {
		if status, code := present(t, h.with(x), "POST", "/v1/groups/users/anna/inbox", x.Token); status != 201 {
			t.Errorf("%s: %d %s, want 201", name, status, code)
		}
		if status, code := present(t, h.with(x), "POST", "/v1/groups/users/otto/inbox", x.Token); status != 403 || code != "forbidden" {
			t.Errorf("%s, to another user: %d %s, want 403 forbidden", name, status, code)
		}
	}
	for name, x := range v.Refused {
		want := x.Code
		if want == "" {
			want = "token-invalid"
		}
		for range 2 { // the second time it might come from a cache
			if status, code := present(t, h.with(x), "POST", "/v1/groups/users/anna/inbox", x.Token); status != 401 || code != want {
				t.Errorf("%s: %d %s, want 401 %s", name, status, code, want)
			}
		}
	}
}

func TestAnIssuersTokenIsNoTokenOfAnotherKey(t *testing.T) {
	v := makeVectors(t)
	h := &hubs{t, v, map[string]*server{}}
	for _, x := range v.Accepted {
		h.with(x)
	}
	for name, x := range v.Accepted {
		for key, s := range h.by {
			alg, _, _ := strings.Cut(name, " ")
			if key == x.Key+x.Set || key == "jwks.json" || strings.HasPrefix(key, alg) {
				continue
			}
			if status, code := present(t, s, "POST", "/v1/groups/users/anna/inbox", x.Token); status != 401 || code != "token-invalid" {
				t.Errorf("%s to the hub with %s: %d %s, want 401 token-invalid", name, key, status, code)
			}
		}
	}
}

func TestWeakAndWrongKeysAreRefusedInOneLine(t *testing.T) {
	v := makeVectors(t)
	files := map[string]watchbox.JWT{"symmetric.json": {KeySet: filepath.Join(v.folder, "symmetric.json")}}
	for _, name := range v.Weak {
		files[name] = watchbox.JWT{Keys: []string{filepath.Join(v.folder, name)}}
	}
	for name, j := range files {
		hub, err := watchbox.New(watchbox.WithJWT(j))
		if err == nil {
			_ = hub.Close()
			t.Errorf("%s is accepted", name)
			continue
		}
		if !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error is %q, want one line that names the file", name, err)
		}
	}
}

// A token that names its own keys must not make the hub fetch them.
func TestAJKUIsNotFetched(t *testing.T) {
	var fetched atomic.Int64
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetched.Add(1) }))
	t.Cleanup(evil.Close)
	v := makeVectors(t)
	h := &hubs{t, v, map[string]*server{}}
	for header, value := range map[string]string{"jku": evil.URL + "/keys", "x5u": evil.URL + "/cert"} {
		head, _ := json.Marshal(map[string]string{"alg": "RS256", "kid": "evil", header: value})
		for _, x := range []vector{v.Accepted["RS256 by PEM"], v.Accepted["RS256 by JWKS"]} {
			_, rest, _ := strings.Cut(x.Token, ".")
			if status, code := present(t, h.with(x), "POST", "/v1/groups/users/anna/inbox", base64.RawURLEncoding.EncodeToString(head)+"."+rest); status != 401 || code != "token-invalid" {
				t.Errorf("%s: %d %s, want 401 token-invalid", header, status, code)
			}
		}
	}
	if n := fetched.Load(); n != 0 {
		t.Errorf("%d requests to the address in the token", n)
	}
}
