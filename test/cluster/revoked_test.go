//go:build !windows

package cluster

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/test/cluster/hubs"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestATokenThatIsRevokedAtOneHubIsRevokedAtAll revokes a token at one hub. Its stream at another hub ends, and no hub takes it
// any more, also one that starts later.
func TestATokenThatIsRevokedAtOneHubIsRevokedAtAll(t *testing.T) {
	secret := strings.Repeat("secret", 6)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	token := func(jti string, grant map[string]any) string {
		claims, err := json.Marshal(map[string]any{"sub": jti, "jti": jti, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "watchbox": grant})
		if err != nil {
			t.Fatal(err)
		}
		text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
		sum := hmac.New(sha256.New, []byte(secret))
		_, _ = sum.Write([]byte(text)) // never fails
		return text + "." + base64.RawURLEncoding.EncodeToString(sum.Sum(nil))
	}
	admin := token("admin", map[string]any{"admin": true})
	reader := token("reader", map[string]any{"subscribe": []string{"#"}})
	other := token("other", map[string]any{"subscribe": []string{"#"}})

	s := servers.ForTest(t, 1)
	args := settings("--nats", s.URL(), "--nats-replicas", "1", "--jwt-key", key)
	all := hubs.ForTest(t, program, 2, args...)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	do := func(method string, h *hubs.Hub, path, token, body string) *http.Response {
		req, err := http.NewRequestWithContext(ctx, method, h.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		return res
	}
	stream := do(http.MethodGet, all[1], "/v1/groups/x", reader, "")
	if stream.StatusCode != http.StatusOK {
		t.Fatalf("a stream is answered with %s", stream.Status)
	}
	if res := do(http.MethodPost, all[0], "/v1/revocations", admin, `{"jti":"reader"}`); res.StatusCode != http.StatusNoContent {
		t.Fatalf("a revocation is answered with %s", res.Status)
	}
	text, err := io.ReadAll(stream.Body) // until the hub ends it
	if err != nil || !strings.Contains(string(text), "token-revoked") {
		t.Errorf("the stream ends with %q, %v", text, err)
	}
	all = append(all, hubs.ForTest(t, program, 1, args...)...)
	for _, h := range all {
		if res := do(http.MethodGet, h, "/v1/history/x", reader, ""); res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s answers %s", h.URL, res.Status)
		}
		if res := do(http.MethodGet, h, "/v1/history/x", other, ""); res.StatusCode != http.StatusOK {
			t.Errorf("%s answers another token with %s", h.URL, res.Status)
		}
	}
}
