package hub_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/sse"
)

// A token may be revoked after it was verified and before the streams have it.
func TestRenewalWithATokenThatWasRevokedMeanwhileEndsTheStream(t *testing.T) {
	auth, err := access.New(t.Context(), access.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = auth.Close() }()
	o := hub.Defaults()
	o.Access = auth
	h, err := hub.New(openDisk(t, t.TempDir()), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	grant := func(id string) *access.Grant {
		g, err := access.NewGrant("anna", id, []string{"foo"}, nil, false, time.Now(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	const secret = "a-secret-of-this-session"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l, err := h.Subscribe(t.Context(), &hub.Subscription{Grant: grant("first"), Filters: group.Set{group.Exact("foo")}, Secret: secret})
		if err != nil {
			t.Error(err)
			return
		}
		conn, err := sse.Open(w, r, h.Poller(), l.Hello())
		if err != nil {
			t.Error(err)
			return
		}
		l.Run(conn)
	}))
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	next := grant("next")
	if err := h.Revoke(t.Context(), access.Revocation{ID: "next"}); err != nil {
		t.Fatal(err)
	}
	if err := h.Renew(session.UID(secret), next); err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), `{"reason":"token-revoked"}`) {
		t.Errorf("the stream is %q, %v", body, err)
	}
}
