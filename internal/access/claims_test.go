package access_test

import (
	"errors"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/watchbox-go/watchbox/internal/access"
)

// Claim names are case-sensitive. An issuer may let its users choose the names of further claims.
func TestClaimsAreReadByTheirExactNames(t *testing.T) {
	c := newClock()
	a := open(t, access.Options{Now: c.now, JWT: &access.JWT{Keys: []string{write(t, "key", []byte(secret))}}})
	m := good(c)
	m["sub"], m["Sub"], m["JTI"] = "anna", "root", "x"
	m["watchbox"] = map[string]any{"publish": []string{"a"}, "Admin": true, "SUBSCRIBE": []string{"#"}}
	m["Watchbox"] = map[string]any{"admin": true, "publish": []string{"#"}}
	g, err := a.Authenticate(t.Context(), sign(t, jwt.SigningMethodHS256, []byte(secret), m))
	if err != nil {
		t.Fatal(err)
	}
	if g.Subject != "anna" || g.ID == "x" || g.Admin || !g.May("a") || g.May("b") || len(g.Subscribe) > 0 {
		t.Errorf("the grant is %+v", g)
	}
	m = good(c)
	m["EXP"] = m["exp"]
	delete(m, "exp")
	if _, err := a.Authenticate(t.Context(), sign(t, jwt.SigningMethodHS256, []byte(secret), m)); !errors.Is(err, access.ErrInvalid) {
		t.Errorf("without exp: %v", err)
	}
}
