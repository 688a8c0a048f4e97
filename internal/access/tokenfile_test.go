package access_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
)

// mint creates a token and adds it to a file.
func mint(t testing.TB, path string, api access.APIToken) string {
	t.Helper()
	token, err := access.NewToken(&api, time.Now())
	if err == nil {
		err = access.AddToken(path, &api)
	}
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestATokenFileHoldsNoToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	token := mint(t, path, access.APIToken{Name: "phone", Subscribe: []string{"home/#"}, Publish: []string{"home/phone"}})
	if !strings.HasPrefix(token, "wb_") || len(token) < 3+32 {
		t.Errorf("the token %q has no prefix wb_ or is too short", token)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), token[3:]) {
		t.Error("the file holds the token")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode of the file is %v, want 0600; %v", info.Mode(), err)
	}
	a := open(t, access.Options{TokenFile: path})
	g, err := a.Authenticate(t.Context(), token)
	if err != nil || g.Subject != "phone" || !g.May("home/phone") || g.May("home") || !covers(t, g, "home/x") || g.Admin {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := a.Authenticate(t.Context(), token+"x"); !errors.Is(err, access.ErrInvalid) {
		t.Error(err)
	}
}

func TestAnAPITokenExpires(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "tokens.json")
	end := c.now().Add(time.Hour)
	token := mint(t, path, access.APIToken{Name: "phone", Expires: &end})
	a := open(t, access.Options{TokenFile: path, Now: c.now})
	if _, err := a.Authenticate(t.Context(), token); err != nil {
		t.Error(err)
	}
	c.add(time.Hour)
	if _, err := a.Authenticate(t.Context(), token); !errors.Is(err, access.ErrExpired) {
		t.Error(err)
	}
}

func TestAChangeOfTheTokenFileIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	phone := mint(t, path, access.APIToken{Name: "phone"})
	a := open(t, access.Options{TokenFile: path})
	changed := make(chan struct{}, 100)
	a.OnChange(func() { changed <- struct{}{} })
	tablet := mint(t, path, access.APIToken{Name: "tablet"})
	if err := access.RemoveToken(path, "phone"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, changed, func() bool {
		_, gone := a.Authenticate(t.Context(), phone)
		_, err := a.Authenticate(t.Context(), tablet)
		return errors.Is(gone, access.ErrRevoked) && err == nil
	})
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.Refresh(t.Context())
	if _, err := a.Authenticate(t.Context(), tablet); err != nil {
		t.Errorf("a token became invalid because the file is broken: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	a.Refresh(t.Context())
	if _, err := a.Authenticate(t.Context(), tablet); err != nil {
		t.Errorf("a token became invalid because the file is missing: %v", err)
	}
}

// A file that cannot be read may become readable without a visible change, for example by chown.
func TestATokenFileThatCannotBeReadIsTriedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	mint(t, path, access.APIToken{Name: "phone"})
	var log strings.Builder
	a := open(t, access.Options{TokenFile: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	tablet := mint(t, path, access.APIToken{Name: "tablet"})
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put := func(content []byte) { // the size and the time of the file do not change
		t.Helper()
		past := time.Now().Add(-time.Hour).Truncate(time.Hour)
		if err := errors.Join(os.WriteFile(path, content, 0o600), os.Chtimes(path, past, past)); err != nil {
			t.Fatal(err)
		}
	}
	put(bytes.Repeat([]byte("x"), len(good)))
	a.Refresh(t.Context())
	a.Refresh(t.Context())
	put(good)
	a.Refresh(t.Context())
	if _, err := a.Authenticate(t.Context(), tablet); err != nil {
		t.Errorf("the file was not read again: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "invalid character"); n != 1 {
		t.Errorf("the failure was logged %d times:\n%s", n, log.String())
	}
}

// waitFor waits until holds returns true. It calls holds after each change.
func waitFor(t *testing.T, changed <-chan struct{}, holds func() bool) {
	t.Helper()
	late := time.After(time.Minute)
	for !holds() {
		select {
		case <-changed:
		case <-late:
			t.Fatal("the change was not noticed within a minute")
		}
	}
}

func TestInvalidTokenFilesAreRefused(t *testing.T) {
	sum := strings.Repeat("0", 64)
	for name, content := range map[string]string{
		"nothing":       "",
		"another file":  `{"tokens":{}}`,
		"a list":        `[]`,
		"a new version": `{"version":2,"tokens":[]}`,
		"unknown field": `{"version":1,"tokens":[{"name":"a","sha256":"` + sum + `","allow":"#"}]}`,
		"no sum":        `{"version":1,"tokens":[{"name":"a","sha256":"x"}]}`,
		"a bad filter":  `{"version":1,"tokens":[{"name":"a","sha256":"` + sum + `","publish":["a//b"]}]}`,
		"a bad name":    `{"version":1,"tokens":[{"name":"a b","sha256":"` + sum + `"}]}`,
		"two documents": `{"version":1,"tokens":[]}{"version":1,"tokens":[]}`,
		"half a second": `{"version":1,"tokens":[]}{`,
		"a name twice":  `{"version":1,"tokens":[{"name":"a","sha256":"` + sum + `"},{"name":"a","sha256":"` + sum + `"}]}`,
	} {
		if _, err := access.New(t.Context(), access.Options{TokenFile: write(t, "tokens.json", []byte(content))}); err == nil || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "Go ") || strings.Contains(err.Error(), "EOF") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := access.New(t.Context(), access.Options{TokenFile: filepath.Join(t.TempDir(), "missing")}); err == nil {
		t.Error("a file that does not exist is accepted")
	}
}

func TestEditThroughALinkReachesTheFile(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "tokens.json"), filepath.Join(dir, "link.json")
	phone := mint(t, file, access.APIToken{Name: "phone"})
	a := open(t, access.Options{TokenFile: file})
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if err := access.RemoveToken(link, "phone"); err != nil {
		t.Fatal(err)
	}
	a.Refresh(t.Context())
	if _, err := a.Authenticate(t.Context(), phone); !errors.Is(err, access.ErrRevoked) {
		t.Errorf("a token that was revoked through a link: %v", err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link was replaced: %v, %v", info, err)
	}
}

func TestConcurrentEditsLoseNoToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() { mint(t, path, access.APIToken{Name: fmt.Sprint("t", i)}) })
	}
	all.Wait()
	list, err := access.ReadTokens(path, false)
	if err != nil || len(list) != 20 {
		t.Errorf("%d tokens, %v", len(list), err)
	}
	again := access.APIToken{Name: "t1"}
	if _, err := access.NewToken(&again, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := access.AddToken(path, &again); err == nil {
		t.Error("two tokens have the same name")
	}
	if err := access.RemoveToken(path, "unknown"); err == nil {
		t.Error("a token that does not exist was removed")
	}
}
