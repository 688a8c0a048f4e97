package watchbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/watchbox-go/watchbox/api"
	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
)

// Grant lists what a caller may do. Subscribe and Publish are filters; groups that no filter matches are
// forbidden. In a filter, {sub} is replaced by the Subject and {uid} by the uid of the caller's session. The zero
// Grant allows nothing.
type Grant struct {
	Subject   string // name of the caller; sessions belong to a subject
	ID        string // names the grant for Revoke; "" for none
	Subscribe []string
	Publish   []string  // "$session/+" allows messages to sessions, "$server" messages to the program
	Admin     bool      // sessions, policies, purges, revocations, metrics and $sys/#
	Expires   time.Time // streams end then; zero for never
}

// ErrUnauthorized is returned by the function of WithAuthorize for a caller who has not logged in. The caller
// gets a 401.
var ErrUnauthorized = errors.New("watchbox: the caller has not logged in")

// WithAuthorize sets a function of the program that decides what each caller may do. f is called with every
// request that needs a grant, on the request's goroutine. ErrUnauthorized becomes a 401, any other error a 403 with
// the error's text. It excludes the other options for tokens.
func WithAuthorize(f func(*http.Request) (*Grant, error)) Option {
	return func(c *config) error {
		if f == nil {
			return errors.New("authorize: the function is nil")
		}
		c.authorize = f
		return nil
	}
}

// WithTokenFile accepts the API tokens of a file, created by watchbox token create. The file is read again
// within two seconds after it has changed.
func WithTokenFile(path string) Option {
	return func(c *config) error {
		if path == "" {
			return errors.New("token-file: the path is empty")
		}
		c.access.TokenFile = path
		return nil
	}
}

// JWT describes the JSON Web Tokens (RFC 7519) that are accepted. At least one key or a key set is needed. The claim
// watchbox of a token is its grant: {"subscribe":[…],"publish":[…],"admin":false}. A token must have exp.
type JWT struct {
	Keys     []string // files: a PEM public key, or a secret of at least 32 bytes for HS256
	KeySet   string   // URL or file of a JSON Web Key Set (RFC 7517); "" for none
	Issuer   string   // required value of iss; "" for any
	Audience string   // a value that aud must have; "" for any
}

// WithJWT accepts JSON Web Tokens.
func WithJWT(j JWT) Option {
	return func(c *config) error {
		if len(j.Keys) == 0 && j.KeySet == "" {
			return errors.New("jwt: name a key (jwt-key) or a key set (jwt-jwks)")
		}
		c.access.JWT = &access.JWT{Keys: j.Keys, KeySet: j.KeySet, Issuer: j.Issuer, Audience: j.Audience}
		return nil
	}
}

// WithAnonymousSubscribe allows callers without a token to subscribe to groups that the filters match. It turns on
// authentication.
func WithAnonymousSubscribe(filters ...string) Option {
	return func(c *config) error {
		set, err := access.ParseFilters(filters, false)
		if err != nil {
			return fmt.Errorf("anonymous-subscribe: %w", err)
		}
		c.anonymous, c.access.Subscribe = true, append(c.access.Subscribe, set...)
		return nil
	}
}

// WithAnonymousPublish is like WithAnonymousSubscribe, for publishing.
func WithAnonymousPublish(filters ...string) Option {
	return func(c *config) error {
		set, err := access.ParseFilters(filters, false)
		if err != nil {
			return fmt.Errorf("anonymous-publish: %w", err)
		}
		c.anonymous, c.access.Publish = true, append(c.access.Publish, set...)
		return nil
	}
}

// WithOpenMetrics lets everyone read /metrics. Otherwise it needs a grant for administration if
// authentication is on.
func WithOpenMetrics() Option {
	return func(c *config) error { c.openMetrics = true; return nil }
}

// WithPublishRate limits the number of messages a second of each client; 0: no limit. A client is a subject
// or, without one, an address.
func WithPublishRate(n int) Option {
	return func(c *config) error {
		if n < 0 {
			return fmt.Errorf("publish-rate: %d is below 0", n)
		}
		c.hub.PublishRate = n
		return nil
	}
}

// WithMaxStreamsPerClient limits the number of open streams of each client; 0: no limit. A client is a subject or,
// without one, an address.
func WithMaxStreamsPerClient(n int) Option {
	return func(c *config) error {
		if n < 0 {
			return fmt.Errorf("max-streams-per-client: %d is below 0", n)
		}
		c.hub.MaxStreamsPerClient = n
		return nil
	}
}

// WithTrustedProxy names the addresses of proxies, such as 10.0.0.0/8 or 127.0.0.1, whose X-Forwarded-For and
// Forwarded headers are trusted to contain the client's address.
func WithTrustedProxy(addresses ...string) Option {
	return func(c *config) error {
		for _, s := range addresses {
			p, err := netip.ParsePrefix(s)
			if ip, ipErr := netip.ParseAddr(s); ipErr == nil {
				p, err = ip.Prefix(ip.BitLen())
			}
			if err != nil {
				return fmt.Errorf("trusted-proxy: %q is not an address or a range such as 10.0.0.0/8", s)
			}
			c.trusted = append(c.trusted, p.Masked())
		}
		return nil
	}
}

// authenticates reports whether callers need grants.
func (c *config) authenticates() bool {
	return c.authorize != nil || c.hasTokens()
}

// hasTokens reports whether the hub checks tokens itself.
func (c *config) hasTokens() bool {
	return c.access.TokenFile != "" || c.access.JWT != nil || c.anonymous
}

// checkAccess returns an error if options exclude each other.
func (c *config) checkAccess() error {
	if c.authorize != nil && c.hasTokens() {
		return errors.New("authorize excludes token-file, jwt and anonymous: the program's own login decides about all callers")
	}
	return nil
}

// authenticator returns the source of grants, or nil if authentication is off.
func (c *config) authenticator() (*access.Authenticator, error) {
	if !c.authenticates() {
		return nil, nil
	}
	o := c.access
	o.Logger = c.hub.Logger
	return access.New(context.Background(), o)
}

// grants returns the function that returns the grant of a request's caller, or nil if everyone may do
// everything.
func (h *Hub) grants() func(*http.Request) (*access.Grant, error) {
	switch {
	case h.access == nil:
		return nil
	case h.config.authorize != nil:
		return h.askProgram
	}
	return func(r *http.Request) (*access.Grant, error) {
		token, err := api.Token(r)
		switch {
		case err != nil:
			return nil, err
		case token == "":
			return h.access.Anonymous(), nil
		}
		return h.access.Authenticate(r.Context(), token)
	}
}

// askProgram returns the grant of a request's caller from the function of WithAuthorize.
func (h *Hub) askProgram(r *http.Request) (g *access.Grant, err error) {
	defer func() {
		if v := recover(); v != nil {
			h.calls.logPanic("the function of WithAuthorize panicked", v)
			g, err = nil, hub.ErrProgram
		}
	}()
	is, err := h.config.authorize(r)
	switch {
	case errors.Is(err, ErrUnauthorized), err == nil && is == nil:
		if r.Header.Get("Authorization") == "" {
			return nil, access.ErrMissing
		}
		return nil, access.ErrInvalid
	case err != nil:
		return nil, &access.Denied{Err: err}
	}
	g, err = access.NewGrant(is.Subject, is.ID, is.Subscribe, is.Publish, is.Admin, time.Now(), is.Expires)
	if err != nil {
		h.logger.Error("WithAuthorize returned a grant with an invalid filter", "error", err)
		return nil, hub.ErrProgram
	}
	return h.access.Current(g)
}

// Revocation revokes the grant with an ID, or all grants of a Subject that were issued before a time.
type Revocation struct {
	ID      string
	Subject string
	Before  time.Time // zero: now
}

// Revoke refuses the grants of a revocation from now on, and ends their open streams. A JWT without an issue
// time counts as issued before any time. A grant of WithAuthorize is issued by each call of its function, so a
// revocation by Subject ends the open streams, and the function decides about later requests. With a data
// directory, revocations survive restarts. To revoke an API token, remove it from its file.
func (h *Hub) Revoke(ctx context.Context, v Revocation) error {
	if ctx == nil {
		return errors.New("watchbox: revoke: the context is nil")
	}
	if v.Subject != "" && v.Before.IsZero() {
		v.Before = time.Now()
	}
	if err := h.core.Revoke(ctx, access.Revocation{ID: v.ID, Subject: v.Subject, Before: v.Before}); err != nil {
		return fmt.Errorf("watchbox: revoke: %w", err)
	}
	return nil
}
