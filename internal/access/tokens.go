package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Errors of changes of the token file.
var (
	ErrNoTokenFile  = errors.New("this hub has no API tokens: start it with a token file")
	ErrTokenUnknown = errors.New("there is no API token of that name")
	ErrTokenExists  = errors.New("an API token of that name exists: choose another name, or revoke it first")
	ErrTokenRefused = errors.New("this cannot be an API token")
	ErrTokenFile    = errors.New("the token file cannot be changed: the hub's log says why")
)

// Tokens returns the API tokens of the token file, sorted by name.
func (a *Authenticator) Tokens() ([]APIToken, error) {
	if a.opts.TokenFile == "" {
		return nil, ErrNoTokenFile
	}
	list, err := ReadTokens(a.opts.TokenFile, false)
	if err != nil {
		return nil, a.unusable(err)
	}
	slices.SortFunc(list, func(a, b APIToken) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// CreateToken returns a new API token, which is valid when CreateToken returns, and sets SHA256, Created and Expires of t.
// The token is valid for the time validity; 0: for ever.
func (a *Authenticator) CreateToken(ctx context.Context, t *APIToken, validity time.Duration) (token string, err error) {
	if a.opts.TokenFile == "" {
		return "", ErrNoTokenFile
	}
	now := a.opts.Now()
	if validity > 0 {
		end := now.Add(validity).UTC().Truncate(time.Second)
		t.Expires = &end
	}
	if token, err = NewToken(t, now); err != nil {
		return "", fmt.Errorf("%w: %w", ErrTokenRefused, err)
	}
	return token, a.change(ctx, AddToken(a.opts.TokenFile, t))
}

// RevokeToken removes an API token. Streams that use it end.
func (a *Authenticator) RevokeToken(ctx context.Context, name string) error {
	if a.opts.TokenFile == "" {
		return ErrNoTokenFile
	}
	return a.change(ctx, RemoveToken(a.opts.TokenFile, name))
}

// change puts a change of the token file in force, or returns why there was none.
func (a *Authenticator) change(ctx context.Context, err error) error {
	if errors.Is(err, ErrTokenExists) {
		return ErrTokenExists
	}
	if errors.Is(err, ErrTokenUnknown) {
		return ErrTokenUnknown
	}
	if err != nil {
		return a.unusable(err)
	}
	a.refreshFiles(ctx)
	return nil
}

// unusable logs why the token file cannot be read or changed. Clients do not see its path.
func (a *Authenticator) unusable(err error) error {
	a.opts.Logger.Error("access: the token file cannot be used", "error", err)
	return ErrTokenFile
}
