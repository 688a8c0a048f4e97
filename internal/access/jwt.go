package access

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// JWT configures which JWTs are accepted. At least one of Keys and KeySet is required.
type JWT struct {
	Keys     []string // files: a PEM public key, or a secret of at least 32 bytes
	KeySet   string   // URL or file of a JSON Web Key Set
	Issuer   string   // required value of iss; "" accepts any
	Audience string   // a value that aud must contain; "" accepts any
}

// skew is how far the clock of an issuer may be ahead or behind. It does not apply to exp.
const skew = time.Minute

// claims holds the members of a JWT that are used.
type claims struct {
	jwt.RegisteredClaims
	Watchbox grantClaim `json:"watchbox"`
}

type grantClaim struct {
	Subscribe []string `json:"subscribe"`
	Publish   []string `json:"publish"`
	Admin     bool     `json:"admin"`
}

// UnmarshalJSON reads claims by their exact names. encoding/json would also take "Sub" and "WATCHBOX", which an issuer
// may let its users choose.
func (c *claims) UnmarshalJSON(b []byte) error {
	type plain claims
	return unmarshalExactly(b, (*plain)(c), "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "watchbox")
}

// UnmarshalJSON is the same for the members of the grant.
func (g *grantClaim) UnmarshalJSON(b []byte) error {
	type plain grantClaim
	return unmarshalExactly(b, (*plain)(g), "subscribe", "publish", "admin")
}

// unmarshalExactly decodes the members of an object that have one of the names.
func unmarshalExactly(b []byte, to any, names ...string) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	maps.DeleteFunc(all, func(name string, _ json.RawMessage) bool { return !slices.Contains(names, name) })
	exact, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return json.Unmarshal(exact, to)
}

// verifier checks JWTs with the configured keys.
type verifier struct {
	keys   []*key
	set    *keySet // or nil
	parser *jwt.Parser
	now    func() time.Time
}

// parserFor returns a parser that accepts only the JWTs that the configuration allows. verify checks exp
// again, because the parser applies the skew to it too.
func parserFor(c JWT, now func() time.Time) *jwt.Parser {
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{"HS256", "RS256", "PS256", "ES256", "EdDSA"}),
		jwt.WithLeeway(skew), jwt.WithIssuedAt(), jwt.WithExpirationRequired(), jwt.WithTimeFunc(now), jwt.WithStrictDecoding(),
	}
	if c.Issuer != "" {
		options = append(options, jwt.WithIssuer(c.Issuer))
	}
	if c.Audience != "" {
		options = append(options, jwt.WithAudience(c.Audience))
	}
	return jwt.NewParser(options...)
}

// verify returns the grant of a JWT.
func (v *verifier) verify(ctx context.Context, token string) (*Grant, error) {
	var c claims
	_, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) { return v.keysFor(ctx, t) })
	switch {
	case errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return nil, ErrExpired
	case err != nil:
		return nil, ErrInvalid
	case !v.now().Before(c.ExpiresAt.Time):
		return nil, ErrExpired
	}
	return c.grant(), nil
}

// keysFor returns the keys that may have signed a token: those that allow the token's algorithm.
func (v *verifier) keysFor(ctx context.Context, t *jwt.Token) (any, error) {
	if _, ok := t.Header["crit"]; ok { // RFC 7515, section 4.1.11: the hub supports no extension
		return nil, ErrInvalid
	}
	alg := t.Method.Alg()
	var fit jwt.VerificationKeySet
	for _, k := range v.keys {
		if k.allows(alg) {
			fit.Keys = append(fit.Keys, k.verify)
		}
	}
	if v.set != nil {
		id, _ := t.Header["kid"].(string)
		list, err := v.set.named(ctx, id)
		if err != nil && len(fit.Keys) == 0 {
			return nil, err
		}
		for _, k := range list {
			if k.allows(alg) {
				fit.Keys = append(fit.Keys, k.verify)
			}
		}
	}
	if len(fit.Keys) == 0 {
		return nil, ErrInvalid
	}
	return fit, nil
}

// grant returns the grant that the claims describe.
func (c *claims) grant() *Grant {
	g := &Grant{Subject: c.Subject, ID: c.ID, Admin: c.Watchbox.Admin, Expires: c.ExpiresAt.Time}
	if c.IssuedAt != nil {
		g.Issued = c.IssuedAt.Time
	}
	g.Subscribe, g.uidSubscribe = patterns(c.Watchbox.Subscribe, c.Subject)
	g.Publish, g.uidPublish = patterns(c.Watchbox.Publish, c.Subject)
	return g
}
