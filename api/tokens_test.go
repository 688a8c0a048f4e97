package api_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox"
)

func TestAPITokensAreCreatedListedAndRevoked(t *testing.T) {
	s := serveGuarded(t)
	root := s.token("root", administration)
	made := s.wants(201, "", "POST /v1/tokens", `{"name":"phone","subscribe":["home/#"],"publish":["home/phone"],"expires":"720h"}`, root...)
	if made.header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control is %q", made.header.Get("Cache-Control"))
	}
	var token struct{ Token string }
	if err := json.Unmarshal([]byte(made.body), &token); err != nil || !strings.HasPrefix(token.Token, "wb_") {
		t.Fatalf("the answer is %s (%v)", made.body, err)
	}
	phone := []string{"Authorization", "Bearer " + token.Token}
	s.wants(200, "", "GET /v1/history/home/%23", "", phone...) // valid at once
	s.wants(403, "forbidden", "GET /v1/history/other", "", phone...)
	stream := s.listen("/v1/groups/home", phone...)

	list := s.wants(200, "", "GET /v1/tokens", "", root...)
	var tokens struct{ Tokens []map[string]any }
	if err := json.Unmarshal([]byte(list.body), &tokens); err != nil || len(tokens.Tokens) != 2 || tokens.Tokens[0]["name"] != "desk" || tokens.Tokens[1]["name"] != "phone" {
		t.Errorf("the list is %s (%v)", list.body, err)
	}
	if strings.Contains(list.body, token.Token) || strings.Contains(list.body, "sha256") {
		t.Errorf("the list has secrets: %s", list.body)
	}

	s.wants(204, "", "DELETE /v1/tokens/phone", "", root...)
	s.wants(401, "token-revoked", "GET /v1/history/home/%23", "", phone...)
	stream.gets("event: bye\ndata: {\"reason\":\"token-revoked\"}\n\n")
	s.wants(404, "token-unknown", "DELETE /v1/tokens/phone", "", root...)
}

func TestAPITokensThatCannotBeCreated(t *testing.T) {
	s := serveGuarded(t)
	root := s.token("root", administration)
	for body, want := range map[string]string{
		`{"name":"desk"}`:                    "409 token-exists",
		`{"name":""}`:                        "422 token-refused",
		`{"name":"a b"}`:                     "422 token-refused",
		`{"name":"a","subscribe":["a/#/b"]}`: "422 token-refused",
		`{"name":"a","expires":"soon"}`:      "422 token-refused",
		`{"name":"a","expires":"-1h"}`:       "422 token-refused",
		`{"name":"a","expires":"0s"}`:        "422 token-refused",
		`{"name":"a","who":1}`:               "400 body-invalid",
		`[]`:                                 "400 body-invalid",
	} {
		status, code, _ := strings.Cut(want, " ")
		if a := s.do("POST /v1/tokens", body, root...); a.code() != code || status != statusText(a.status) {
			t.Errorf("%s: %d %s, want %s", body, a.status, a.body, want)
		}
	}
	if a := s.wants(200, "", "GET /v1/tokens", "", root...); strings.Count(a.body, `"name"`) != 1 {
		t.Errorf("the tokens are %s", a.body)
	}
}

func statusText(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestAHubWithoutATokenFileHasNoAPITokens(t *testing.T) {
	s := serve(t)
	s.wants(404, "no-token-file", "GET /v1/tokens", "")
	s.wants(404, "no-token-file", "POST /v1/tokens", `{"name":"a"}`)
	s.wants(404, "no-token-file", "DELETE /v1/tokens/a", "")
}

func TestATokenFileThatCannotBeReadIsNotShown(t *testing.T) {
	path := newTokenFile(t)
	i := newIssuer(t)
	s := serve(t, i.option(), watchbox.WithTokenFile(path))
	if err := os.WriteFile(path, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := i.token("root", administration)
	for _, call := range []string{"GET /v1/tokens", "DELETE /v1/tokens/desk"} {
		if a := s.wants(503, "token-file-unusable", call, "", root...); strings.Contains(a.body, filepath.Dir(path)) {
			t.Errorf("%s: the answer has the path: %s", call, a.body)
		}
	}
	s.wants(503, "token-file-unusable", "POST /v1/tokens", `{"name":"a"}`, root...)
}

func TestCallsAboutAPITokensRefuseBadRequests(t *testing.T) {
	s := serveGuarded(t)
	root := s.token("root", administration)
	for _, call := range []string{"GET /v1/tokens", "POST /v1/tokens", "DELETE /v1/tokens/desk"} {
		s.wants(400, "parameter-unknown", call+"?x=y", "", root...)
	}
	s.wants(413, "message-too-large", "POST /v1/tokens", strings.Repeat(" ", 1<<20), root...)
	s.wants(415, "unsupported-media-type", "POST /v1/tokens", "{}", append(root, "Content-Type", "text/plain")...)
}
