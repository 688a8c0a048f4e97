package watchbox_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/sse"
)

// signer makes JWTs for a hub.
type signer struct {
	*testing.T
	path string
	key  []byte
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	s := &signer{t, filepath.Join(t.TempDir(), "key"), []byte(rand.Text() + rand.Text())}
	if err := os.WriteFile(s.path, s.key, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *signer) option() watchbox.Option {
	return watchbox.WithJWT(watchbox.JWT{Keys: []string{s.path}})
}

// token returns a token that allows a subject to subscribe and publish to filters, separated by spaces.
func (s *signer) token(sub string, life time.Duration, filters string, more ...string) string {
	s.Helper()
	claims := jwt.MapClaims{
		"sub": sub, "iat": time.Now().Unix(), "exp": time.Now().Add(life).Unix(),
		"watchbox": map[string]any{"subscribe": strings.Fields(filters), "publish": strings.Fields(filters), "admin": slices.Contains(more, "admin")},
	}
	for i := 0; i+1 < len(more); i += 2 {
		claims[more[i]] = more[i+1]
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(s.key)
	if err != nil {
		s.Fatal(err)
	}
	return token
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// bye fails unless the stream's next event is bye with a reason.
func (l *subscriber) bye(reason string) {
	l.Helper()
	ev := l.next()
	for ev.Type != "bye" { // messages may come before
		ev = l.next()
	}
	if want := fmt.Sprintf(`{"reason":"%s"}`, reason); string(ev.Data) != want {
		l.Errorf("the stream ends with %s, want %s", ev.Data, want)
	}
}

// listenBriefly opens a stream with a token that expires soon, after the shortest lifetime that this machine is
// fast enough for.
func (s *signer) listenBriefly(p *place, target, sub, filters string) *subscriber {
	s.Helper()
	for life := 2 * time.Second; ; life *= 2 {
		token := bearer(s.token(sub, life, filters))
		if status, body := p.do("HEAD "+target, "", token...); status == 401 {
			continue // the token expired before the request
		} else if status != 200 {
			s.Fatalf("%d %s", status, body)
		}
		return p.listen(target, "", bearer(s.token(sub, life, filters))...)
	}
}

func TestResumeAfterAnExpiredTokenLosesNoMessage(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	hub, addr := serve(t, s.option())
	p := at(t, addr)
	l := s.listenBriefly(p, "/v1/groups/a", "anna", "a")
	var want, got []string
	send := func() {
		for range 3 {
			id, err := hub.Publish(t.Context(), "a", "x")
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, id)
		}
	}
	last := ""
	receive := func(ev sse.Event) {
		var m message
		if json.Unmarshal(ev.Data, &m) == nil && m.ID != "" {
			got = append(got, m.ID)
		}
		last = ev.ID
	}
	send()
	ev := l.next()
	for ; ev.Type != "bye"; ev = l.next() {
		receive(ev)
	}
	if string(ev.Data) != `{"reason":"token-expired"}` {
		t.Errorf("the stream ends with %s", ev.Data)
	}
	send()
	l = p.listen("/v1/groups/a", l.secret, append(bearer(s.token("anna", time.Hour, "a")), "Last-Event-ID", last)...)
	for len(got) < len(want) {
		receive(l.next())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRenewedTokenReplacesTheGrantOfTheStream(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	hub, addr := serve(t, s.option())
	p := at(t, addr)
	l := p.listen("/v1/events?group=a&group=b", "", bearer(s.token("anna", time.Hour, "#"))...)
	token := "/v1/sessions/" + l.uid + "/token"
	own := []string{"Watchbox-Session", l.secret}
	p.refused(403, "session-of-another", "PUT "+token, "", append(own, bearer(s.token("otto", time.Hour, "#"))...)...)
	p.refused(401, "token-missing", "PUT "+token, "", own...)
	p.refused(401, "session-required", "PUT "+token, "", bearer(s.token("anna", time.Hour, "#"))...)
	p.wants(204, "PUT "+token, "", append(own, bearer(s.token("anna", time.Hour, "a"))...)...)
	for _, group := range []string{"b", "a"} {
		if _, err := hub.Publish(t.Context(), group, group); err != nil {
			t.Fatal(err)
		}
	}
	if m := l.message(); m.Group != "a" {
		t.Errorf("got a message to %s, which the new token does not cover", m.Group)
	}
	p.wants(204, "PUT "+token, "", append(own, bearer(s.token("anna", time.Hour, "c"))...)...)
	l.bye("forbidden")
}

func TestRevocationEndsStreamsAndSurvivesARestart(t *testing.T) {
	t.Parallel()
	s, dir := newSigner(t), t.TempDir()
	issued := time.Now()
	byID, bySubject := s.token("anna", time.Hour, "#", "jti", "stolen"), s.token("otto", time.Hour, "#")
	admin := bearer(s.token("root", time.Hour, "", "admin"))
	t.Run("before the restart", func(t *testing.T) {
		hub, addr := serve(t, s.option(), watchbox.WithDataDir(dir))
		p := at(t, addr)
		a, b, c := p.listen("/v1/groups/a", "", bearer(byID)...), p.listen("/v1/groups/a", "", bearer(bySubject)...), p.listen("/v1/groups/a", "", bearer(s.token("anna", time.Hour, "#"))...)
		p.wants(204, "POST /v1/revocations", `{"jti":"stolen"}`, admin...)
		a.bye("token-revoked")
		if err := hub.Revoke(t.Context(), watchbox.Revocation{Subject: "otto", Before: issued.Add(time.Minute)}); err != nil {
			t.Fatal(err)
		}
		b.bye("token-revoked")
		p.wants(201, "POST /v1/groups/a", "x", forAll(s)...)
		if m := c.message(); m.Group != "a" {
			t.Errorf("%+v", m)
		}
	})
	t.Run("after the restart", func(t *testing.T) {
		_, addr := serve(t, s.option(), watchbox.WithDataDir(dir))
		p := at(t, addr)
		for _, token := range []string{byID, bySubject} {
			p.refused(401, "token-revoked", "GET /v1/history/a", "", bearer(token)...)
		}
		p.wants(200, "GET /v1/history/a", "", forAll(s)...)
	})
}

// forAll returns the header of a token that allows all groups.
func forAll(s *signer) []string { return bearer(s.token("program", time.Hour, "#")) }

func TestSessionKeepsItsSubjectAcrossARestart(t *testing.T) {
	t.Parallel()
	s, dir := newSigner(t), t.TempDir()
	const secret = "a secret of sixteen bytes or more"
	mine, other := bearer(s.token("anna", time.Hour, "#")), bearer(s.token("otto", time.Hour, "#"))
	t.Run("before the restart", func(t *testing.T) {
		_, addr := serve(t, s.option(), watchbox.WithDataDir(dir), watchbox.WithSessionTimeout(time.Hour))
		at(t, addr).listen("/v1/groups/a", strings.ReplaceAll(secret, " ", "-"), mine...)
	})
	t.Run("after the restart", func(t *testing.T) {
		_, addr := serve(t, s.option(), watchbox.WithDataDir(dir), watchbox.WithSessionTimeout(time.Hour))
		p := at(t, addr)
		p.refused(403, "session-of-another", "GET /v1/groups/a", "", append(other, "Watchbox-Session", strings.ReplaceAll(secret, " ", "-"))...)
		p.listen("/v1/groups/a", strings.ReplaceAll(secret, " ", "-"), mine...)
	})
}

func TestGrantMayContainSubjectAndUID(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	_, addr := serve(t, s.option())
	p := at(t, addr)
	token := bearer(s.token("anna", time.Hour, "home/{sub} devices/{uid}/#"))
	l := p.listen("/v1/groups/home/anna", "", token...)
	own := append(token, "Watchbox-Session", l.secret)
	p.wants(201, "POST /v1/groups/devices/"+l.uid+"/state", "x", own...)
	p.wants(204, "PUT /v1/sessions/"+l.uid+"/groups/devices/"+l.uid, "", own...)
	p.refused(403, "forbidden", "POST /v1/groups/devices/"+l.uid+"/state", "x", token...)
	p.refused(403, "forbidden", "POST /v1/groups/devices/other/state", "x", own...)
	p.refused(403, "forbidden", "POST /v1/groups/home/otto", "x", own...)
	p.refused(403, "forbidden", "POST /v1/groups/home/x/x", "x", bearer(s.token("+/x", time.Hour, "home/{sub}"))...)
}

func TestWithAuthorizeDecidesAboutEachRequest(t *testing.T) {
	t.Parallel()
	hub, addr := serve(t, watchbox.WithAuthorize(func(r *http.Request) (*watchbox.Grant, error) {
		c, err := r.Cookie("app")
		switch {
		case err != nil:
			return nil, watchbox.ErrUnauthorized
		case c.Value == "nil":
			return nil, nil
		case c.Value == "panic":
			panic("on purpose")
		case c.Value == "broken":
			return &watchbox.Grant{Subscribe: []string{"a/#/b"}}, nil
		case c.Value == "late":
			return &watchbox.Grant{Subscribe: []string{"#"}, Expires: time.Now()}, nil
		case c.Value == "banned":
			return nil, errors.New("you have not paid")
		}
		return &watchbox.Grant{Subject: c.Value, ID: "id of " + c.Value, Subscribe: []string{"{sub}/#"}, Publish: []string{"{sub}"}}, nil
	}))
	joined := make(chan watchbox.Session, 1)
	hub.OnJoin(func(s watchbox.Session, _ string) { joined <- s })
	sent := make(chan watchbox.Message, 1)
	hub.OnMessage(func(m watchbox.Message) { sent <- m })
	p := at(t, addr)
	as := func(name string) []string { return []string{"Cookie", "app=" + name} }
	p.refused(401, "token-missing", "GET /v1/history/a", "")
	p.refused(401, "token-missing", "GET /v1/history/a", "", as("nil")...)
	p.refused(401, "token-invalid", "GET /v1/history/a", "", bearer("x")...)
	p.refused(401, "token-expired", "GET /v1/history/a", "", as("late")...)
	p.refused(500, "program-failed", "GET /v1/history/a", "", as("panic")...)
	p.refused(500, "program-failed", "GET /v1/history/a", "", as("broken")...)
	p.refused(403, "forbidden", "GET /v1/history/a", "", as("anna")...)
	if p.refused(403, "forbidden", "GET /v1/history/a", "", as("banned")...); !strings.Contains(p.wants(403, "GET /v1/history/a", "", as("banned")...), "you have not paid") {
		t.Error("the error's text is not in the answer")
	}
	l := p.listen("/v1/groups/anna/%23", "", as("anna")...)
	if s := <-joined; s.Subject != "anna" || s.UID != l.uid {
		t.Errorf("OnJoin gets %+v", s)
	}
	p.wants(201, "POST /v1/groups/anna", "x", as("anna")...)
	if m := <-sent; m.Subject != "anna" {
		t.Errorf("OnMessage gets %+v", m)
	}
	l.message()
	if err := hub.Revoke(t.Context(), watchbox.Revocation{Subject: "anna"}); err != nil {
		t.Fatal(err)
	}
	l.bye("token-revoked")
	l = p.listen("/v1/groups/anna", "", as("anna")...) // the program still lets anna in
	if err := hub.Revoke(t.Context(), watchbox.Revocation{ID: "id of anna"}); err != nil {
		t.Fatal(err)
	}
	l.bye("token-revoked")
	p.refused(401, "token-revoked", "GET /v1/history/anna", "", as("anna")...)
	if _, err := hub.Publish(t.Context(), "anywhere", "the program needs no grant"); err != nil {
		t.Error(err)
	}
}

func TestInvalidAccessOptionsAreRefused(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	login := watchbox.WithAuthorize(func(*http.Request) (*watchbox.Grant, error) { return nil, nil })
	for want, opts := range map[string][]watchbox.Option{
		"authorize: the function is nil":        {watchbox.WithAuthorize(nil)},
		"authorize excludes":                    {login, watchbox.WithAnonymousPublish("a")},
		"token-file: the path is empty":         {watchbox.WithTokenFile("")},
		"token file: open " + none:              {watchbox.WithTokenFile(none)},
		"jwt: name a key":                       {watchbox.WithJWT(watchbox.JWT{Issuer: "x"})},
		none:                                    {watchbox.WithJWT(watchbox.JWT{Keys: []string{none}})},
		"anonymous-subscribe: \"a/#/b\"":        {watchbox.WithAnonymousSubscribe("a/#/b")},
		"anonymous-publish: \"\"":               {watchbox.WithAnonymousPublish("")},
		"publish-rate: -1 is below 0":           {watchbox.WithPublishRate(-1)},
		"max-streams-per-client: -1 is below 0": {watchbox.WithMaxStreamsPerClient(-1)},
		"trusted-proxy: \"10.0.0\" is not an address or a range": {watchbox.WithTrustedProxy("10.0.0")},
	} {
		if _, err := watchbox.New(opts...); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("the error is %v, want %s", err, want)
		}
	}
	hub, _ := serve(t)
	if err := hub.Revoke(t.Context(), watchbox.Revocation{ID: "x"}); err == nil || !strings.Contains(err.Error(), "authentication is off") {
		t.Errorf("revoking without authentication: %v", err)
	}
	var missing context.Context
	if err := hub.Revoke(missing, watchbox.Revocation{ID: "x"}); err == nil {
		t.Error("a nil context is accepted")
	}
}

func TestPublishRateIsLimitedPerClient(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	const rate = 1000
	_, addr := serve(t, s.option(), watchbox.WithPublishRate(rate), watchbox.WithAnonymousPublish("#"))
	p := at(t, addr)
	lines := func(n int, header ...string) *http.Response {
		resp, err := p.try(t.Context(), "POST /v1/groups/a", strings.Repeat("1\n", n), append(header, "Content-Type", "application/x-ndjson")...)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp
	}
	if got := lines(rate + 1).StatusCode; got != 429 {
		t.Errorf("a batch above the rate: %d", got)
	}
	eventually(t, "a client is limited", func() bool {
		resp := lines(rate)
		return resp.StatusCode == 429 && resp.Header.Get("Retry-After") == "1"
	})
	if got := lines(rate, bearer(s.token("anna", time.Hour, "a"))...).StatusCode; got != 201 {
		t.Errorf("another client: %d", got)
	}
	eventually(t, "the client may publish again", func() bool { return lines(rate).StatusCode == 201 })
}

func TestStreamsAreLimitedPerClient(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	_, addr := serve(t, s.option(), watchbox.WithMaxStreamsPerClient(2))
	p := at(t, addr)
	anna, otto := bearer(s.token("anna", time.Hour, "a")), bearer(s.token("otto", time.Hour, "a"))
	first := p.listen("/v1/groups/a", "", anna...)
	p.listen("/v1/groups/a", "", anna...)
	p.refused(429, "too-many-client-streams", "GET /v1/groups/a", "", anna...)
	p.listen("/v1/groups/a", "", otto...)
	first.cut()
	eventually(t, "the client may open a stream again", func() bool {
		resp, err := p.try(t.Context(), "GET /v1/groups/a", "", anna...)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode == 200
	})
}

func TestTrustedProxyProvidesTheClientAddress(t *testing.T) {
	t.Parallel()
	const none = "127.0.0.1"
	for _, c := range []struct {
		trusted []string
		header  []string
		want    string
	}{
		{nil, []string{"X-Forwarded-For", "1.2.3.4"}, none},
		{[]string{"10.0.0.0/8"}, []string{"X-Forwarded-For", "1.2.3.4"}, none},
		{[]string{"127.0.0.0/8"}, nil, none},
		{[]string{"127.0.0.1"}, []string{"X-Forwarded-For", "1.2.3.4"}, "1.2.3.4"},
		{[]string{"127.0.0.1"}, []string{"X-Forwarded-For", "6.6.6.6, 1.2.3.4"}, "1.2.3.4"},
		{[]string{"127.0.0.1", "10.0.0.0/8"}, []string{"X-Forwarded-For", "6.6.6.6,1.2.3.4, 10.1.2.3"}, "1.2.3.4"},
		{[]string{"127.0.0.1", "10.0.0.0/8"}, []string{"X-Forwarded-For", "10.9.9.9"}, "10.9.9.9"},
		{[]string{"127.0.0.1"}, []string{"X-Forwarded-For", "1.2.3.4, nonsense"}, none},
		{[]string{"127.0.0.1"}, []string{"X-Forwarded-For", "1.2.3.4, ,"}, "1.2.3.4"},
		{[]string{"127.0.0.1"}, []string{"X-Forwarded-For", "", "Forwarded", "for=1.2.3.4"}, "1.2.3.4"},
		{[]string{"127.0.0.1"}, []string{"X-Forwarded-For", "2001:db8::7"}, "2001:db8::7"},
		{[]string{"127.0.0.1"}, []string{"X-Forwarded-For", "[2001:db8::7]:4711"}, "2001:db8::7"},
		{[]string{"127.0.0.1"}, []string{"Forwarded", `for=6.6.6.6, for="[2001:db8::7]:4711";proto=https`}, "2001:db8::7"},
		{[]string{"127.0.0.1"}, []string{"Forwarded", "proto=https; For=1.2.3.4"}, "1.2.3.4"},
		{[]string{"127.0.0.1"}, []string{"Forwarded", "for=_hidden"}, none},
		{[]string{"127.0.0.1"}, []string{"Forwarded", "for=6.6.6.6", "X-Forwarded-For", "1.2.3.4"}, "1.2.3.4"},
	} {
		_, addr := serve(t, watchbox.WithTrustedProxy(c.trusted...))
		p := at(t, addr)
		p.listen("/v1/groups/a", "", c.header...)
		got := p.wants(200, "GET /v1/sessions", "")
		if !strings.Contains(got, `"address":"`+c.want+`"`) && !strings.Contains(got, `"address":"`+c.want+":") {
			t.Errorf("trusting %v, %v is %s", c.trusted, c.header, got)
		}
	}
}

func TestIdempotencyKeysAreSeparatePerSubject(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	_, addr := serve(t, s.option())
	p := at(t, addr)
	key := func(sub string) []string {
		return append(bearer(s.token(sub, time.Hour, "#")), "Idempotency-Key", "one")
	}
	first := p.wants(201, "POST /v1/groups/a", "x", key("anna")...)
	if again := p.wants(201, "POST /v1/groups/a", "x", key("anna")...); again != first {
		t.Errorf("the same subject gets %s after %s", again, first)
	}
	if other := p.wants(201, "POST /v1/groups/a", "x", key("otto")...); other == first {
		t.Error("another subject gets the same answer")
	}
}

func TestRunAcceptsAnOpenAddressIfCallersNeedTokens(t *testing.T) {
	addr := make(chan net.Addr, 1)
	hub, err := watchbox.New(newSigner(t).option(), watchbox.WithListening(func(a net.Addr) { addr <- a }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- hub.Run(ctx, "0.0.0.0:0", nil) }()
	select {
	case <-addr:
		stop()
		err = <-ended
	case err = <-ended:
		stop()
	}
	if err = errors.Join(err, hub.Close()); err != nil {
		t.Error(err)
	}
}
