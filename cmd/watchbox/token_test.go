package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A token may expire between the read of its file and the check by the hub.
func TestARequestWithARefusedTokenIsRepeatedWithTheNextOne(t *testing.T) {
	for name, c := range map[string]struct {
		next string // replaces the token when it is refused
		want []string
	}{
		"the next":    {"new", []string{"Bearer old hi", "Bearer new hi"}},
		"the same":    {"old", []string{"Bearer old hi"}},
		"one refused": {"bad", []string{"Bearer old hi", "Bearer bad hi"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "token")
			write := func(token string) {
				if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("old")
			var got []string
			hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				token := r.Header.Get("Authorization")
				got = append(got, token+" "+string(body))
				if token != "Bearer new" {
					write(c.next)
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"id":"e-1","group":"a","time":"2026-01-02T15:04:05Z"}`)
			}))
			defer hub.Close()
			p := &pub{Server: Server{URL: hubURL(hub.URL), Credentials: Credentials{TokenFile: file}}, Group: "a"}
			if err := p.send(context.Background(), []byte("hi")); (err == nil) != (c.next == "new") {
				t.Errorf("the error is %v", err)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("the hub received %q, want %q", got, c.want)
			}
		})
	}
}
