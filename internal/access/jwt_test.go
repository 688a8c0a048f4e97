package access_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
)

const secret = "0123456789abcdef0123456789abcdef"

// clock is a clock that tests set.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func write(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func publicPEM(t testing.TB, k crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func open(t testing.TB, o access.Options) *access.Authenticator {
	t.Helper()
	a, err := access.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// good returns valid claims at the clock's time.
func good(c *clock) jwt.MapClaims {
	return jwt.MapClaims{
		"sub": "anna", "iss": "https://issuer.example", "aud": []string{"watchbox"},
		"exp": c.now().Add(time.Hour).Unix(), "iat": c.now().Unix(), "jti": "t1",
		"watchbox": map[string]any{"subscribe": []string{"users/{sub}/#", "public/#"}, "publish": []string{"users/{sub}/#"}},
	}
}

func sign(t testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims, header ...string) string {
	t.Helper()
	tok := jwt.NewWithClaims(method, claims)
	for i := 0; i < len(header); i += 2 {
		tok.Header[header[i]] = header[i+1]
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func covers(t testing.TB, g *access.Grant, filter string) bool {
	t.Helper()
	f, err := group.ParseFilter(filter)
	if err != nil {
		t.Fatal(err)
	}
	return g.Covers(f)
}

func TestEachKeyVerifiesOnlyItsOwnAlgorithms(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaPEM, ecPEM, edPEM := publicPEM(t, &rsaKey.PublicKey), publicPEM(t, &ecKey.PublicKey), publicPEM(t, edPublic)
	files := map[string][]byte{"secret": []byte(secret + "\n"), "rsa": rsaPEM, "ec": ecPEM, "ed": edPEM}
	c := newClock()
	signed := []struct {
		name   string
		token  string
		openBy string // the key file that verifies it; "": none
	}{
		{"HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), good(c)), "secret"},
		{"HS512", sign(t, jwt.SigningMethodHS512, []byte(secret), good(c)), ""},
		{"RS256", sign(t, jwt.SigningMethodRS256, rsaKey, good(c)), "rsa"},
		{"RS512", sign(t, jwt.SigningMethodRS512, rsaKey, good(c)), ""},
		{"PS256", sign(t, jwt.SigningMethodPS256, rsaKey, good(c)), "rsa"},
		{"ES256", sign(t, jwt.SigningMethodES256, ecKey, good(c)), "ec"},
		{"EdDSA", sign(t, jwt.SigningMethodEdDSA, edKey, good(c)), "ed"},
		{"none", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good(c)), ""},
		{"HS256 with the RSA key's PEM as its secret", sign(t, jwt.SigningMethodHS256, rsaPEM, good(c)), ""},
		{"HS256 with the EC key's PEM as its secret", sign(t, jwt.SigningMethodHS256, ecPEM, good(c)), ""},
		{"crit", sign(t, jwt.SigningMethodHS256, []byte(secret), good(c), "crit", "exp"), ""},
	}
	for file, content := range files {
		a := open(t, access.Options{Now: c.now, JWT: &access.JWT{Keys: []string{write(t, file, content)}}})
		for _, s := range signed {
			_, err := a.Authenticate(t.Context(), s.token)
			if want := s.openBy == file; want != (err == nil) || !want && !errors.Is(err, access.ErrInvalid) {
				t.Errorf("%s with the key of %s: %v", s.name, file, err)
			}
		}
	}
}

func TestClaimsAreChecked(t *testing.T) {
	c := newClock()
	a := open(t, access.Options{Now: c.now, JWT: &access.JWT{
		Keys: []string{write(t, "key", []byte(secret))}, Issuer: "https://issuer.example", Audience: "watchbox",
	}})
	at := func(d time.Duration) int64 { return c.now().Add(d).Unix() }
	for _, x := range []struct {
		name   string
		change func(jwt.MapClaims)
		want   error
	}{
		{"valid", func(jwt.MapClaims) {}, nil},
		{"no exp", func(m jwt.MapClaims) { delete(m, "exp") }, access.ErrInvalid},
		{"expired now", func(m jwt.MapClaims) { m["exp"] = at(0) }, access.ErrExpired},
		{"expired a second ago", func(m jwt.MapClaims) { m["exp"] = at(-time.Second) }, access.ErrExpired},
		{"expired an hour ago", func(m jwt.MapClaims) { m["exp"] = at(-time.Hour) }, access.ErrExpired},
		{"exp is text", func(m jwt.MapClaims) { m["exp"] = "tomorrow" }, access.ErrInvalid},
		{"issued 59 s ahead", func(m jwt.MapClaims) { m["iat"] = at(59 * time.Second) }, nil},
		{"issued 2 min ahead", func(m jwt.MapClaims) { m["iat"] = at(2 * time.Minute) }, access.ErrInvalid},
		{"valid in 59 s", func(m jwt.MapClaims) { m["nbf"] = at(59 * time.Second) }, nil},
		{"valid in 2 min", func(m jwt.MapClaims) { m["nbf"] = at(2 * time.Minute) }, access.ErrInvalid},
		{"another issuer", func(m jwt.MapClaims) { m["iss"] = "https://other.example" }, access.ErrInvalid},
		{"no issuer", func(m jwt.MapClaims) { delete(m, "iss") }, access.ErrInvalid},
		{"another audience", func(m jwt.MapClaims) { m["aud"] = "other" }, access.ErrInvalid},
		{"no audience", func(m jwt.MapClaims) { delete(m, "aud") }, access.ErrInvalid},
		{"two audiences", func(m jwt.MapClaims) { m["aud"] = []string{"other", "watchbox"} }, nil},
	} {
		m := good(c)
		x.change(m)
		if _, err := a.Authenticate(t.Context(), sign(t, jwt.SigningMethodHS256, []byte(secret), m)); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", x.name, err, x.want)
		}
	}
	for _, token := range []string{"", "x", "a.b", "a.b.c", "a.b.c.d", strings.Repeat("x.", 9000)} {
		if _, err := a.Authenticate(t.Context(), token); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("%.20q: %v", token, err)
		}
	}
}

func TestACachedGrantExpiresWithItsToken(t *testing.T) {
	c := newClock()
	a := open(t, access.Options{Now: c.now, JWT: &access.JWT{Keys: []string{write(t, "key", []byte(secret))}}})
	token := sign(t, jwt.SigningMethodHS256, []byte(secret), good(c))
	for range 2 {
		if _, err := a.Authenticate(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	c.add(time.Hour)
	if _, err := a.Authenticate(t.Context(), token); !errors.Is(err, access.ErrExpired) {
		t.Error(err)
	}
}

func TestPlaceholdersStandForOneLevelOnly(t *testing.T) {
	c := newClock()
	a := open(t, access.Options{Now: c.now, JWT: &access.JWT{Keys: []string{write(t, "key", []byte(secret))}}})
	grant := func(sub string, patterns ...string) *access.Grant {
		m := good(c)
		m["sub"] = sub
		m["watchbox"] = map[string]any{"subscribe": patterns}
		g, err := a.Authenticate(t.Context(), sign(t, jwt.SigningMethodHS256, []byte(secret), m))
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	if g := grant("anna", "users/{sub}/#"); !covers(t, g, "users/anna/x") || covers(t, g, "users/bert/x") || covers(t, g, "users/+/x") {
		t.Error("users/{sub}/# of anna is not users/anna/#")
	}
	for _, sub := range []string{"", "+", "#", "a/b", "$x", "..", "a\x00b"} {
		g := grant(sub, "{sub}", "users/{sub}/#", "public")
		if len(g.Subscribe) != 1 || !covers(t, g, "public") {
			t.Errorf("the subject %q is granted %v", sub, g.Subscribe.Strings())
		}
	}
	g := grant("anna", "inbox/{uid}", "{sub}/{uid}")
	if covers(t, g, "inbox/u1") {
		t.Error("a pattern with {uid} allows something before the session is known")
	}
	if of := g.For("u1"); !covers(t, of, "inbox/u1") || !covers(t, of, "anna/u1") || covers(t, of, "inbox/u2") {
		t.Errorf("the session u1 is granted %v", of.Subscribe.Strings())
	}
}

func TestAnInvalidKeyIsRefusedWithAOneLineError(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip("this version of Go generates no small RSA keys: ", err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "short": []byte("0123456789abcdef0123456789abcde\n\n\n"), "no PEM": []byte("-----BEGIN nothing"),
		"private": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"damaged": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}),
		"1024":    publicPEM(t, &small.PublicKey), "P-384": publicPEM(t, &p384.PublicKey),
	} {
		_, err := access.New(t.Context(), access.Options{JWT: &access.JWT{Keys: []string{write(t, "key", b)}}})
		if err == nil || strings.Contains(err.Error(), "\n") || len(b) > 0 && strings.Contains(err.Error(), string(b)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := access.New(t.Context(), access.Options{JWT: &access.JWT{}}); err == nil {
		t.Error("JWTs without a key are accepted")
	}
}

// issuer serves a key set that tests change.
type issuer struct {
	*httptest.Server
	mu    sync.Mutex
	body  []byte
	asked int
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.asked++
		if i.body == nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write(i.body)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) serve(body []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.body = body
}

func (i *issuer) times() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

// jwks returns a key set of Ed25519 keys and a secret. The authenticator must ignore the secret.
func jwks(t *testing.T, keys map[string]ed25519.PrivateKey) []byte {
	t.Helper()
	var set jwkset.JWKSMarshal
	for id, k := range keys {
		j, err := jwkset.NewJWKFromKey(k.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: id, USE: jwkset.UseSig}})
		if err != nil {
			t.Fatal(err)
		}
		set.Keys = append(set.Keys, j.Marshal())
	}
	set.Keys = append(set.Keys, jwkset.JWKMarshal{KTY: jwkset.KtyOct, KID: "oct", K: base64.RawURLEncoding.EncodeToString([]byte(secret))})
	b, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKeysOfASetMayShareAKid(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var set jwkset.JWKSMarshal
	for _, public := range []any{curve.Public(), edwards.Public()} {
		j, err := jwkset.NewJWKFromKey(public, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: "same"}})
		if err != nil {
			t.Fatal(err)
		}
		set.Keys = append(set.Keys, j.Marshal())
	}
	b, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	c, i := newClock(), newIssuer(t)
	i.serve(b)
	a := open(t, access.Options{Now: c.now, JWT: &access.JWT{KeySet: i.URL}})
	for _, token := range []string{
		sign(t, jwt.SigningMethodES256, curve, good(c), "kid", "same"),
		sign(t, jwt.SigningMethodEdDSA, edwards, good(c), "kid", "same"),
	} {
		if _, err := a.Authenticate(t.Context(), token); err != nil {
			t.Error(err)
		}
	}
}

func TestAKeySetIsRefreshedAndKeptWhileItsSourceFails(t *testing.T) {
	keys := map[string]ed25519.PrivateKey{}
	for _, id := range []string{"one", "two", "three"} {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[id] = k
	}
	only := func(ids ...string) []byte {
		some := map[string]ed25519.PrivateKey{}
		for _, id := range ids {
			some[id] = keys[id]
		}
		return jwks(t, some)
	}
	c, i := newClock(), newIssuer(t)
	i.serve(only("one"))
	a := open(t, access.Options{Now: c.now, JWT: &access.JWT{KeySet: i.URL}})
	token := func(id string) string { return sign(t, jwt.SigningMethodEdDSA, keys[id], good(c), "kid", id) }
	accepts := func(want bool, token string) {
		t.Helper()
		if _, err := a.Authenticate(t.Context(), token); (err == nil) != want {
			t.Errorf("accepted: %t, want %t: %v", err == nil, want, err)
		}
	}
	accepts(true, token("one"))
	accepts(true, sign(t, jwt.SigningMethodEdDSA, keys["one"], good(c))) // without a kid
	accepts(false, sign(t, jwt.SigningMethodHS256, []byte(secret), good(c), "kid", "oct"))
	asked := i.times()
	i.serve(only("one", "two"))
	for range 50 {
		accepts(false, token("two")) // the set was fetched less than a minute ago
	}
	if i.times() != asked {
		t.Errorf("%d fetches for an unknown kid within a minute", i.times()-asked)
	}
	c.add(61 * time.Second)
	accepts(true, token("two"))
	i.serve(nil) // the source fails
	c.add(61 * time.Second)
	accepts(false, token("three"))
	accepts(true, token("one"))
	accepts(true, token("two"))
	i.serve([]byte(`{"keys":[]}`)) // the source has no keys
	c.add(61 * time.Second)
	accepts(false, token("three"))
	accepts(true, token("two"))
	i.serve(only("two")) // the key "one" is withdrawn
	c.add(11 * time.Minute)
	a.Refresh(t.Context())
	accepts(false, token("one"))
	accepts(true, token("two"))
}

func TestNewRefusesAKeySetThatCannotBeRead(t *testing.T) {
	i := newIssuer(t)
	for _, source := range []string{i.URL, filepath.Join(t.TempDir(), "missing"), write(t, "set", []byte("{}")), write(t, "set", []byte("x"))} {
		if _, err := access.New(t.Context(), access.Options{JWT: &access.JWT{KeySet: source}}); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", source, err)
		}
	}
}

func TestARevokedTokenIsRefusedAtOnce(t *testing.T) {
	c := newClock()
	a := open(t, access.Options{Now: c.now, JWT: &access.JWT{Keys: []string{write(t, "key", []byte(secret))}}})
	token := func(change func(jwt.MapClaims)) string {
		m := good(c)
		change(m)
		return sign(t, jwt.SigningMethodHS256, []byte(secret), m)
	}
	tokens := map[string]string{
		"t1": token(func(jwt.MapClaims) {}),
		"t2": token(func(m jwt.MapClaims) { m["jti"] = "t2" }),
		"no iat": token(func(m jwt.MapClaims) {
			m["jti"] = "t3"
			delete(m, "iat")
		}),
		"bert": token(func(m jwt.MapClaims) { m["sub"] = "bert"; m["jti"] = "t4" }),
	}
	revoked := func(want ...string) {
		t.Helper()
		for name, tok := range tokens {
			is := false
			for _, w := range want {
				is = is || w == name
			}
			if _, err := a.Authenticate(t.Context(), tok); is != errors.Is(err, access.ErrRevoked) || !is && err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	revoked()
	calls := 0
	a.OnChange(func() { calls++ })
	for i, r := range []access.Revocation{{ID: "t1"}, {Subject: "anna", Before: c.now().Add(time.Second)}} {
		if _, err := a.Revoke(r); err != nil {
			t.Fatal(err)
		}
		if calls != i+1 {
			t.Errorf("OnChange was called %d times, want %d", calls, i+1)
		}
		revoked([][]string{{"t1"}, {"t1", "t2", "no iat"}}[i]...)
	}
	for _, r := range []access.Revocation{{}, {Subject: "anna"}, {Before: c.now()}, {ID: "x", Subject: "y", Before: c.now()}} {
		if _, err := a.Revoke(r); err == nil {
			t.Errorf("%+v is accepted", r)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	c := newClock()
	path := filepath.Join(b.TempDir(), "tokens")
	api := &access.APIToken{Name: "phone", Publish: []string{"home/#"}}
	apiToken, err := access.NewToken(api, c.now())
	if err == nil {
		err = access.AddToken(path, api)
	}
	if err != nil {
		b.Fatal(err)
	}
	a := open(b, access.Options{Now: c.now, TokenFile: path, JWT: &access.JWT{Keys: []string{write(b, "key", []byte(secret))}}})
	for name, token := range map[string]string{"API": apiToken, "JWT": sign(b, jwt.SigningMethodHS256, []byte(secret), good(c))} {
		b.Run(fmt.Sprint("known ", name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Authenticate(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
