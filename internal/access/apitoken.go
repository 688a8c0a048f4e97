package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// tokenPrefix is the prefix of every API token. Secret scanners recognise a leaked token by it.
const tokenPrefix = "wb_"

// tokenBytes is the number of random bytes in an API token: 256 bits.
const tokenBytes = 32

// APIToken describes an API token in a token file.
type APIToken struct {
	Name      string     `json:"name"`
	SHA256    string     `json:"sha256"` // of the token, in hexadecimal
	Subscribe []string   `json:"subscribe,omitempty"`
	Publish   []string   `json:"publish,omitempty"`
	Admin     bool       `json:"admin,omitempty"`
	Created   time.Time  `json:"created"`
	Expires   *time.Time `json:"expires,omitempty"`
}

// NewToken returns a new API token and sets SHA256 and Created of t. The token itself is stored nowhere.
func NewToken(t *APIToken, now time.Time) (token string, err error) {
	if err := t.check(); err != nil {
		return "", err
	}
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	token = tokenPrefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
	sum := sha256.Sum256([]byte(token))
	t.SHA256, t.Created = hex.EncodeToString(sum[:]), now.UTC().Truncate(time.Second)
	return token, nil
}

// maxName is the longest name of an API token, in bytes.
const maxName = 64

// check returns an error if the token's name or one of its filters is invalid.
func (t *APIToken) check() error {
	ok := t.Name != "" && len(t.Name) <= maxName
	for _, c := range []byte(t.Name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-@", c) >= 0)
	}
	if !ok {
		return fmt.Errorf("name %.80q: use 1 to %d letters, digits and . _ - @", t.Name, maxName)
	}
	for _, list := range [][]string{t.Subscribe, t.Publish} {
		if _, err := ParseFilters(list, true); err != nil {
			return err
		}
	}
	return nil
}

// grant returns the token's grant.
func (t *APIToken) grant() *Grant {
	g := &Grant{Subject: t.Name, Admin: t.Admin, Issued: t.Created}
	if t.Expires != nil {
		g.Expires = *t.Expires
	}
	g.Subscribe, g.uidSubscribe = patterns(t.Subscribe, t.Name)
	g.Publish, g.uidPublish = patterns(t.Publish, t.Name)
	return g
}
