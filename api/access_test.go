package api_test

import (
	"crypto/rand"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/session"
)

// issuer makes JWTs for a test's hub, valid and invalid ones.
type issuer struct {
	t    testing.TB
	key  []byte
	path string // of the file with the key
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	i := &issuer{t: t, key: []byte(rand.Text() + rand.Text()), path: filepath.Join(t.TempDir(), "key")}
	if err := os.WriteFile(i.path, i.key, 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

func (i *issuer) option() watchbox.Option {
	return watchbox.WithJWT(watchbox.JWT{Keys: []string{i.path}, Issuer: "tests", Audience: "watchbox"})
}

// grant is the claim watchbox.
type grant map[string]any

func subscribe(filters ...string) grant { return grant{"subscribe": filters} }
func publish(filters ...string) grant   { return grant{"publish": filters} }

var administration = grant{"admin": true}

// token returns the header of a valid token of a subject. change may change its claims.
func (i *issuer) token(sub string, g grant, change ...func(jwt.MapClaims)) []string {
	i.t.Helper()
	claims := jwt.MapClaims{
		"sub": sub, "iss": "tests", "aud": "watchbox", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"jti": rand.Text(), "watchbox": g,
	}
	for _, c := range change {
		c(claims)
	}
	return i.sign(jwt.SigningMethodHS256, claims)
}

func (i *issuer) sign(method jwt.SigningMethod, claims jwt.MapClaims) []string {
	i.t.Helper()
	s, err := jwt.NewWithClaims(method, claims).SignedString(i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	return []string{"Authorization", "Bearer " + s}
}

// guarded is an operation that needs a grant. {uid} in a call is replaced by the uid of anna's session.
type guarded struct {
	call, body string
	enough     grant
	own        bool // needs the secret of anna's session and anna's token
	status     int  // with a sufficient grant
}

const oneLine = `{"group":"foo","msg":1}`

// guardedOperations has every operation of openapi.yaml that needs a grant, by its operationId.
var guardedOperations = map[string]guarded{
	"subscribe":            {"GET /v1/groups/foo", "", subscribe("foo"), false, 200},
	"checkSubscribe":       {"HEAD /v1/groups/foo", "", subscribe("foo"), false, 200},
	"subscribeEvents":      {"GET /v1/events?group=foo&group=bar", "", subscribe("foo", "ba+", "bar"), false, 200},
	"subscribeByPost":      {"POST /v1/events", "group=foo&group=bar", subscribe("foo", "bar"), false, 200},
	"checkSubscribeEvents": {"HEAD /v1/events?group=foo", "", subscribe("foo"), false, 200},
	"historyOfSeveral":     {"GET /v1/history?group=foo&group=bar&wait=0s", "", subscribe("#"), false, 200},
	"history":              {"GET /v1/history/foo", "", subscribe("#"), false, 200},
	"retained":             {"GET /v1/retained/foo", "", subscribe("foo/#"), false, 200},
	"groups":               {"GET /v1/groups", "", subscribe("foo"), false, 200},
	"presence":             {"GET /v1/presence/foo", "", subscribe("foo"), false, 200},
	"publish":              {"POST /v1/groups/foo", "x", publish("foo"), false, 201},
	"publishBatch":         {"POST /v1/messages", oneLine, publish("foo"), false, 201},
	"sendToSession":        {"POST /v1/sessions/{uid}", "x", publish("$session/+"), false, 201},
	"sendToServer":         {"POST /v1/server", "x", publish("$server"), false, 202},
	"purge":                {"DELETE /v1/groups/foo", "", administration, false, 204},
	"policy":               {"GET /v1/policies/foo", "", administration, false, 200},
	"setPolicy":            {"PUT /v1/policies/foo", `{}`, administration, false, 200},
	"sessions":             {"GET /v1/sessions", "", administration, false, 200},
	"session":              {"GET /v1/sessions/{uid}", "", administration, false, 200},
	"metrics":              {"GET /metrics", "", administration, false, 200},
	"revoke":               {"POST /v1/revocations", `{"jti":"unknown"}`, administration, false, 204},
	"tokens":               {"GET /v1/tokens", "", administration, false, 200},
	"createToken":          {"POST /v1/tokens", `{"name":"phone","subscribe":["home/#"]}`, administration, false, 201},
	"revokeToken":          {"DELETE /v1/tokens/desk", "", administration, false, 204},
	"explain":              {"GET /v1/explain?action=admin", "", grant{}, false, 200},
	"login":                {"POST /v1/login", "", grant{}, false, 204},
	"joinGroup":            {"PUT /v1/sessions/{uid}/groups/foo", "", subscribe("foo"), true, 204},
	"leaveGroup":           {"DELETE /v1/sessions/{uid}/groups/foo", "", grant{}, true, 204},
	"setWill":              {"PUT /v1/sessions/{uid}/will", oneLine, publish("foo"), true, 204},
	"clearWill":            {"DELETE /v1/sessions/{uid}/will", "", grant{}, true, 204},
	"heartbeat":            {"POST /v1/sessions/{uid}/heartbeat", "", grant{}, true, 204},
	"renewToken":           {"PUT /v1/sessions/{uid}/token", "", subscribe("home/#"), true, 204},
	"endSession":           {"DELETE /v1/sessions/{uid}", "", grant{}, true, 204},
}

// openOperations need no grant.
var openOperations = []string{"logout", "spec", "healthz", "readyz", "page", "asset", "browserClient", "mqtt"}

func TestEveryOperationIsInTheTableOfGrants(t *testing.T) {
	listed := slices.Concat(slices.Collect(maps.Keys(guardedOperations)), openOperations)
	var all []string
	for _, item := range theContract.doc.Paths.Map() {
		for _, op := range item.Operations() {
			all = append(all, op.OperationID)
			if open := slices.Contains(openOperations, op.OperationID); open != (op.Security != nil && len(*op.Security) == 0) {
				t.Errorf("%s: openapi.yaml has security %v", op.OperationID, op.Security)
			}
		}
	}
	slices.Sort(all)
	slices.Sort(listed)
	if !slices.Equal(all, listed) {
		t.Errorf("openapi.yaml has %v\nthe table has %v", all, listed)
	}
}

// guardedServer is a hub that accepts the JWTs of an issuer, and anna's open stream.
type guardedServer struct {
	*server
	*issuer
	anna *stream
}

// serveGuarded runs a hub with an OnMessage callback, and subscribes anna to home.
func serveGuarded(t *testing.T, opts ...watchbox.Option) *guardedServer {
	i := newIssuer(t)
	s := serve(t, append(opts, i.option(), watchbox.WithTokenFile(newTokenFile(t)))...)
	s.hub.OnMessage(func(watchbox.Message) {})
	g := &guardedServer{s, i, nil}
	g.anna = s.listen("/v1/groups/home", g.token("anna", subscribe("home", "foo"))...)
	return g
}

// newTokenFile returns a file with the API token desk.
func newTokenFile(t testing.TB) string {
	t.Helper()
	path, desk := filepath.Join(t.TempDir(), "tokens"), access.APIToken{Name: "desk"}
	if _, err := access.NewToken(&desk, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := access.AddToken(path, &desk); err != nil {
		t.Fatal(err)
	}
	return path
}

// try calls an operation and returns the status and code.
func (s *guardedServer) try(t *testing.T, op guarded, header ...string) (status int, code string) {
	t.Helper()
	if op.own {
		header = append(header, "Watchbox-Session", s.anna.secret)
	}
	call := strings.ReplaceAll(op.call, "{uid}", s.anna.uid)
	if !strings.HasPrefix(call, "HEAD ") && op.status == 200 && (strings.HasPrefix(call, "GET /v1/groups/") || strings.Contains(call, "/v1/events")) {
		return s.tryStream(t, call, op.body, header)
	}
	a := s.in(t).do(call, op.body, header...)
	return a.status, a.code()
}

// tryStream opens a stream, and closes it at once.
func (s *guardedServer) tryStream(t *testing.T, call, body string, header []string) (int, string) {
	t.Helper()
	r := s.request(call, body, header...)
	resp, err := s.client.Do(r.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == 200 {
		return 200, ""
	}
	a := s.in(t).do(call, body, header...)
	return a.status, a.code()
}

func TestEveryOperationChecksTheToken(t *testing.T) {
	for name, op := range guardedOperations {
		t.Run(name, func(t *testing.T) {
			s := serveGuarded(t)
			valid := func(change func(jwt.MapClaims)) []string { return s.token("anna", op.enough, change) }
			claims := jwt.MapClaims{"sub": "anna", "iss": "tests", "aud": "watchbox", "exp": time.Now().Add(time.Hour).Unix(), "watchbox": op.enough}
			revoked := s.token("anna", op.enough, func(c jwt.MapClaims) { c["jti"] = "revoked" })
			s.wants(204, "", "POST /v1/revocations", `{"jti":"revoked"}`, s.token("root", administration)...)
			before := s.state(t)
			for _, c := range []struct {
				name   string
				header []string
				status int
				code   string
			}{
				{"no token", nil, 401, "token-missing"},
				{"no bearer", []string{"Authorization", "Basic YTpi"}, 401, "token-invalid"},
				{"an empty bearer", []string{"Authorization", "Bearer "}, 401, "token-invalid"},
				{"expired", valid(func(c jwt.MapClaims) { c["exp"] = time.Now().Unix() }), 401, "token-expired"},
				{"no expiry", valid(func(c jwt.MapClaims) { delete(c, "exp") }), 401, "token-invalid"},
				{"wrong issuer", valid(func(c jwt.MapClaims) { c["iss"] = "others" }), 401, "token-invalid"},
				{"wrong audience", valid(func(c jwt.MapClaims) { c["aud"] = "others" }), 401, "token-invalid"},
				{"wrong algorithm", s.sign(jwt.SigningMethodHS384, claims), 401, "token-invalid"},
				{"not signed", []string{"Authorization", "Bearer " + unsigned(t, claims)}, 401, "token-invalid"},
				{"revoked", revoked, 401, "token-revoked"},
				{"two tokens", append(valid(func(jwt.MapClaims) {}), "Cookie", tokenCookie+"=other"), 400, "token-ambiguous"},
			} {
				if strings.HasPrefix(op.call, "HEAD") {
					c.code = ""
				}
				if name == "login" && c.name == "two tokens" {
					continue // it replaces the cookie
				}
				if status, code := s.try(t, op, c.header...); status != c.status || code != c.code {
					t.Errorf("%s: %d %s, want %d %s", c.name, status, code, c.status, c.code)
				}
			}
			s.narrow(t, name, op)
			if after := s.state(t); after != before {
				t.Errorf("refused requests had an effect:\n%s\nbefore:\n%s", after, before)
			}
			if status, code := s.try(t, op, s.token("anna", op.enough)...); status != op.status || code != "" {
				t.Errorf("with a sufficient grant: %d %s, want %d", status, code, op.status)
			}
		})
	}
}

// narrow tries an operation with tokens that do not allow it.
func (s *guardedServer) narrow(t *testing.T, name string, op guarded) {
	t.Helper()
	narrow := map[string][]string{
		"nothing": s.token("anna", grant{}),
		"others":  s.token("anna", grant{"subscribe": []string{"foo/+", "$session/#", "bar"}, "publish": []string{"foo/#/", "#/foo", "bar/#", "+/+"}}),
		"admin":   s.token("anna", administration),
	}
	if op.enough["admin"] == true {
		narrow["admin"] = s.token("anna", grant{"subscribe": []string{"#"}, "publish": []string{"#", "$session/#", "$server"}})
	}
	if len(op.enough) > 0 && name != "groups" && name != "renewToken" {
		for kind, header := range narrow {
			status, code := s.try(t, op, header...)
			if status != 403 || code != "forbidden" && !strings.HasPrefix(op.call, "HEAD") {
				t.Errorf("a grant of %s: %d %s", kind, status, code)
			}
		}
	}
	other := s.token("otto", op.enough)
	if !op.own {
		other = append(other, "Watchbox-Session", s.anna.secret)
	}
	if status, code := s.try(t, op, other...); status != 403 || code != "session-of-another" && !strings.HasPrefix(op.call, "HEAD") {
		t.Errorf("the secret of another subject's session: %d %s", status, code)
	}
}

// state returns the hub's state, which a refused request must not change.
func (s *guardedServer) state(t *testing.T) string {
	t.Helper()
	all := s.token("watcher", grant{"subscribe": []string{"#"}, "admin": true})
	sessions := s.in(t).wants(200, "", "GET /v1/sessions", "", all...).body
	return sessions + s.in(t).wants(200, "", "GET /v1/history/%23", "", all...).body + s.in(t).wants(200, "", "GET /v1/policies/foo", "", all...).body
}

// unsigned returns a JWT with the algorithm none.
func unsigned(t *testing.T, claims jwt.MapClaims) string {
	t.Helper()
	s, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOperationsThatNeedNoTokenIgnoreIt(t *testing.T) {
	s := serve(t, newIssuer(t).option(), watchbox.WithOpenMetrics())
	for _, call := range []string{
		"DELETE /v1/login", "GET /openapi.yaml", "GET /healthz", "GET /readyz", "GET /", "GET /assets/app.js", "GET /watchbox.js", "GET /metrics",
	} {
		for _, header := range [][]string{nil, {"Authorization", "Bearer wrong"}, {"Cookie", tokenCookie + "=wrong"}} {
			if a := s.do(call, "", header...); a.status/100 != 2 {
				t.Errorf("%s %v: %d %s", call, header, a.status, a.body)
			}
		}
	}
}

func TestAnonymousGrantAppliesWithoutAToken(t *testing.T) {
	i := newIssuer(t)
	s := serve(t, i.option(), watchbox.WithAnonymousSubscribe("public/#"), watchbox.WithAnonymousSubscribe("open"), watchbox.WithAnonymousPublish("public/in"))
	s.wants(200, "", "GET /v1/history/public/x", "")
	s.wants(200, "", "GET /v1/history/open", "")
	s.wants(201, "", "POST /v1/groups/public/in", "x")
	s.wants(401, "token-missing", "POST /v1/groups/public/out", "x")
	s.wants(401, "token-missing", "GET /v1/history/%23", "")
	s.wants(401, "token-missing", "GET /v1/sessions", "")
	s.wants(401, "token-missing", "POST /v1/login", "")
	s.wants(401, "token-invalid", "GET /v1/history/public/x", "", "Authorization", "Bearer wrong")
	s.wants(403, "forbidden", "GET /v1/history/public/x", "", i.token("anna", subscribe("home"))...)
	for _, query := range []string{"access_token=wrong", "access_token=", "access_token=%zz", "access_token=wrong;x", "x=%zz&access_token=wrong"} {
		s.wants(401, "token-invalid", "GET /v1/history/public/x?"+query, "")
	}
	s.wants(400, "parameter-unknown", "GET /v1/history/public/x?%61ccess_token=wrong", "")
}

func TestTokenIsReadFromHeaderCookieAndQuery(t *testing.T) {
	s := serveGuarded(t)
	token := strings.TrimPrefix(s.token("anna", subscribe("foo"))[1], "Bearer ")
	login := s.wants(204, "", "POST /v1/login", "", "Authorization", "Bearer "+token)
	cookie, _, _ := strings.Cut(login.header.Get("Set-Cookie"), ";")
	for _, want := range []string{tokenCookie + "=" + token, "; Path=/", "; HttpOnly", "; SameSite=Strict", "; Max-Age="} {
		if !strings.Contains(login.header.Get("Set-Cookie"), want) {
			t.Errorf("the cookie has no %q: %s", want, login.header.Get("Set-Cookie"))
		}
	}
	for _, header := range [][]string{{"Authorization", "Bearer " + token}, {"authorization", "bearer  " + token}, {"Cookie", cookie}, {"Cookie", "a=b; " + cookie}} {
		s.wants(200, "", "GET /v1/history/foo", "", header...)
	}
	a := s.wants(200, "", "GET /v1/history/foo?access_token="+token, "")
	if a.header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("Referrer-Policy is %q", a.header.Get("Referrer-Policy"))
	}
	s.wants(200, "", "GET /v1/history/foo?access_token="+token, "", "Cookie", cookie) // the same token twice
	s.wants(400, "token-ambiguous", "GET /v1/history/foo?access_token=x", "", "Cookie", cookie)
	s.wants(400, "token-ambiguous", "GET /v1/history/foo?access_token=x&access_token=y", "")
	s.wants(401, "token-invalid", "GET /v1/history/foo?access_token=", "")
	s.wants(400, "parameter-unknown", "GET /v1/history/foo?access_tokens=x", "", "Cookie", cookie)
	if out := s.wants(204, "", "DELETE /v1/login", "", "Cookie", cookie).header.Get("Set-Cookie"); !strings.HasPrefix(out, tokenCookie+"=;") || !strings.Contains(out, "Max-Age=0") {
		t.Errorf("logging out sets %q", out)
	}
	s.wants(400, "parameter-unknown", "DELETE /v1/login?a=b", "")
	s.wants(400, "parameter-unknown", "POST /v1/login?a=b", "", "Authorization", "Bearer "+token)
	s.wants(401, "token-missing", "POST /v1/login", "", "Cookie", cookie) // the cookie does not renew itself
}

// A page cannot keep the browser from sending the cookie that it wants to replace.
func TestLoginReplacesTheCookie(t *testing.T) {
	s := serveGuarded(t)
	again := s.token("anna", subscribe("foo"))
	for _, old := range []string{strings.TrimPrefix(s.token("anna", subscribe("foo"))[1], "Bearer "), "expired"} {
		set := s.wants(204, "", "POST /v1/login", "", append(again, "Cookie", tokenCookie+"="+old)...).header.Get("Set-Cookie")
		if !strings.HasPrefix(set, tokenCookie+"="+strings.TrimPrefix(again[1], "Bearer ")+";") {
			t.Errorf("the cookie is %s", set)
		}
	}
	s.wants(400, "token-ambiguous", "POST /v1/login?access_token=other", "", again...)
	s.wants(400, "token-ambiguous", "GET /v1/groups", "", append(again, "Cookie", tokenCookie+"=other")...)
}

func TestEveryAnswerKeepsTheTokenOutOfReferer(t *testing.T) {
	s := serveGuarded(t)
	token := strings.TrimPrefix(s.token("anna", subscribe("foo"))[1], "Bearer ")
	for call, status := range map[string]int{
		"GET /v1/history/foo?access_token=" + token: 200, "GET /v1/history/foo?access_token=wrong": 401, "GET /nothing?access_token=" + token: 404,
		"PATCH /v1/groups?access_token=" + token: 405, "GET /openapi.yaml?access_token=" + token: 200, "GET /?access_token=" + token: 200,
	} {
		if a := s.do(call, ""); a.status != status || a.header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %d, Referrer-Policy %q", call, a.status, a.header.Get("Referrer-Policy"))
		}
	}
}

func TestLoginCookieIsSecureBehindAProxyThatEndsTLS(t *testing.T) {
	s := serveGuarded(t)
	token := strings.TrimPrefix(s.token("anna", subscribe("foo"))[1], "Bearer ")
	proxied := []string{"X-Forwarded-Proto", "https"}
	set := s.wants(204, "", "POST /v1/login", "", append(proxied, "Authorization", "Bearer "+token)...).header.Get("Set-Cookie")
	if !strings.HasPrefix(set, "__Host-watchbox_token=") || !strings.Contains(set, "; Secure") || !strings.Contains(set, "; Path=/;") {
		t.Errorf("the cookie is %s", set)
	}
	cookie, _, _ := strings.Cut(set, ";")
	s.wants(200, "", "GET /v1/history/foo", "", append(proxied, "Cookie", cookie)...)
	s.wants(401, "token-missing", "GET /v1/history/foo", "", append(proxied, "Cookie", "watchbox_token="+token)...) // anyone on the network could set it
}

func TestForbiddenCallNamesTheMissingGrant(t *testing.T) {
	s := serveGuarded(t)
	for _, c := range []struct{ call, body, action, filter string }{
		{"GET /v1/history/a/%23", "", "subscribe", "a/#"},
		{"POST /v1/groups/a/b", "x", "publish", "a/b"},
		{"POST /v1/messages", `{"group":"foo","msg":1}` + "\n" + `{"group":"bar","msg":1}`, "publish", "bar"},
		{"POST /v1/server", "x", "publish", "$server"},
		{"GET /v1/sessions", "", "admin", ""},
	} {
		var p struct{ Action, Filter string }
		s.wants(403, "forbidden", c.call, c.body, s.token("anna", publish("foo"))...).decode(t, &p)
		if p.Action != c.action || p.Filter != c.filter {
			t.Errorf("%s: %+v", c.call, p)
		}
	}
	if h := s.in(t).wants(200, "", "GET /v1/history/%23", "", s.token("x", subscribe("#"))...); strings.Contains(h.body, "group") {
		t.Errorf("messages of a refused batch are stored: %s", h.body)
	}
}

func TestReplayedAnswerNeedsTheGrantToo(t *testing.T) {
	s := serveGuarded(t)
	key := []string{"Idempotency-Key", "once"}
	wide, narrow := s.token("anna", publish("foo")), s.token("anna", publish("bar"))
	for call, body := range map[string]string{"POST /v1/groups/foo": "x", "POST /v1/messages": oneLine, "POST /v1/server": "x"} {
		header, status := wide, 201
		if call == "POST /v1/server" {
			header, status = s.token("anna", publish("$server")), 202
		}
		s.wants(status, "", call, body, append(header, key...)...)
		s.wants(403, "forbidden", call, body, append(narrow, key...)...)
		if a := s.wants(status, "", call, body, append(header, key...)...); a.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%s: the answer is not replayed", call)
		}
	}
}

func TestGroupListHasOnlyGroupsThatTheGrantCovers(t *testing.T) {
	s := serveGuarded(t)
	for _, name := range []string{"a/1", "a/2", "b"} {
		s.wants(201, "", "POST /v1/groups/"+name, "x", s.token("anna", publish("#"))...)
	}
	var list struct{ Groups []struct{ Group string } }
	s.wants(200, "", "GET /v1/groups", "", s.token("anna", subscribe("a/+"))...).decode(t, &list)
	if len(list.Groups) != 2 || list.Groups[0].Group != "a/1" || list.Groups[1].Group != "a/2" {
		t.Errorf("the groups are %v", list.Groups)
	}
}

func TestAccessToTheServersOwnGroups(t *testing.T) {
	s := serveGuarded(t)
	wide := s.token("anna", subscribe("#", "$presence/#", "$session/#", "$sys/#"))
	narrow := s.token("anna", grant{"subscribe": []string{"a", "$presence/b"}, "admin": true})
	s.wants(403, "forbidden", "GET /v1/history/$sys/stats", "", wide...)
	s.wants(200, "", "GET /v1/history/$sys/%23", "", narrow...)
	s.wants(200, "", "GET /v1/history/$presence/a/b", "", wide...)
	s.wants(200, "", "GET /v1/history/$presence/a", "", narrow...)
	s.wants(403, "forbidden", "GET /v1/history/$presence/b", "", narrow...)
	s.wants(403, "forbidden", "GET /v1/history/$presence/%23", "", narrow...)
	s.wants(403, "filter-forbidden", "GET /v1/history/$session/"+s.anna.uid, "", wide...)
	s.wants(403, "filter-forbidden", "GET /v1/history/$session/%23", "", wide...)
	s.wants(403, "filter-forbidden", "GET /v1/presence/$session/%23", "", wide...)
}

func TestInvalidRevocationsAreRefused(t *testing.T) {
	s := serveGuarded(t)
	root := s.token("root", administration)
	for _, body := range []string{`{}`, `{"jti":""}`, `{"sub":"a"}`, `{"before":"2026-01-01T00:00:00Z"}`, `{"jti":"a","sub":"b","before":"2026-01-01T00:00:00Z"}`, `{"jti":"` + strings.Repeat("x", 257) + `"}`} {
		s.wants(422, "revocation-invalid", "POST /v1/revocations", body, root...)
	}
	for _, body := range []string{``, `[]`, `{"jti":1}`, `{"id":"x"}`, `{"sub":"a","before":"yesterday"}`} {
		s.wants(400, "body-invalid", "POST /v1/revocations", body, root...)
	}
	s.wants(415, "unsupported-media-type", "POST /v1/revocations", `{"jti":"a"}`, append(root, "Content-Type", "text/plain")...)
	s.wants(400, "parameter-unknown", "POST /v1/revocations?a=b", `{"jti":"a"}`, root...)
	serve(t).wants(409, "authentication-off", "POST /v1/revocations", `{"jti":"a"}`)
}

func TestNumberOfRevocationsIsLimited(t *testing.T) {
	s := serveGuarded(t)
	var all sync.WaitGroup
	for range 100 { // at once, so that they share commits on disk
		all.Go(func() {
			for range 1000 {
				if err := s.hub.Revoke(t.Context(), watchbox.Revocation{ID: rand.Text()}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	s.wants(507, "too-many-revocations", "POST /v1/revocations", `{"jti":"one too many"}`, s.token("root", administration)...)
}

func TestClientOverItsLimitsIsRefused(t *testing.T) {
	s := serve(t, watchbox.WithPublishRate(1000), watchbox.WithMaxStreamsPerClient(1))
	s.hub.OnMessage(func(watchbox.Message) {})
	s.listen("/v1/groups/foo")
	for _, call := range []string{"GET /v1/groups/foo", "GET /v1/events?group=foo", "POST /v1/events?group=foo"} {
		s.wants(429, "too-many-client-streams", call, "")
	}
	for _, call := range []string{"POST /v1/groups/foo", "POST /v1/messages", "POST /v1/server"} {
		if a := s.wants(429, "batch-over-rate", call, strings.Repeat(oneLine+"\n", 1001), "Content-Type", "application/x-ndjson"); a.header.Get("Retry-After") != "1" {
			t.Errorf("%s: Retry-After is %q", call, a.header.Get("Retry-After"))
		}
	}
	s.wants(201, "", "POST /v1/groups/foo", strings.Repeat("1\n", 1000), "Content-Type", "application/x-ndjson")
}

func TestEachWayToPublishCountsTowardsThePublishRate(t *testing.T) {
	s := serve(t, watchbox.WithPublishRate(1))
	s.hub.OnMessage(func(watchbox.Message) {})
	st := s.listen("/v1/groups/foo")
	for _, call := range []string{"POST /v1/groups/foo", "POST /v1/messages", "POST /v1/server", "POST /v1/sessions/" + st.uid} {
		eventually(t, call+" is refused", func() bool { // the second one within a second
			a := s.do(call, oneLine)
			return a.code() == "rate-limited" && a.status == 429 && a.header.Get("Retry-After") == "1"
		})
	}
	s.wants(429, "batch-over-rate", "POST /v1/sessions/"+st.uid, "1\n2\n", "Content-Type", "application/x-ndjson")
}

func TestTokenRenewalNeedsTheSessionsSecret(t *testing.T) {
	s := serveGuarded(t)
	token := s.token("anna", subscribe("home"))
	own := append(token, "Watchbox-Session", s.anna.secret)
	path := "PUT /v1/sessions/" + s.anna.uid + "/token"
	if left := s.wants(204, "", path, "", own...).header.Get("Watchbox-Expires-In"); len(left) != 4 { // four digits: just under 3600 seconds
		t.Errorf("Watchbox-Expires-In is %q", left)
	}
	s.wants(400, "parameter-unknown", path+"?a=b", "", own...)
	s.wants(400, "parameter-invalid", path+"?session=a&session=b", "", token...)
	s.wants(400, "session-invalid", path, "", append(token, "Watchbox-Session", "short")...)
	s.wants(403, "session-mismatch", path, "", append(token, "Watchbox-Session", strings.Repeat("x", 20))...)
	s.wants(401, "session-required", path, "", token...)
	unknown := strings.Repeat("y", 20)
	s.wants(404, "session-unknown", "PUT /v1/sessions/"+session.UID(unknown)+"/token", "", append(token, "Watchbox-Session", unknown)...)
	_ = s.anna.Close()
	eventually(t, "the session has no stream", func() bool { return s.do(path, "", own...).code() == "no-stream" })
}

func TestKickNeedsTheAdminGrant(t *testing.T) {
	s := serveGuarded(t)
	s.wants(403, "forbidden", "DELETE /v1/sessions/"+s.anna.uid, "", s.token("anna", subscribe("#"))...)
	s.wants(204, "", "DELETE /v1/sessions/"+s.anna.uid, "", s.token("root", administration)...)
}
