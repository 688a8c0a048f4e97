package session

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"

	"github.com/google/uuid"
)

// Limits of a secret's length.
const (
	MinSecret = 16
	MaxSecret = 128
)

// ErrSecret reports an invalid secret.
var ErrSecret = errors.New("a session's secret is 16 to 128 visible ASCII characters, chosen at random")

// CheckSecret returns ErrSecret if secret is not valid.
func CheckSecret(secret string) error {
	if len(secret) < MinSecret || len(secret) > MaxSecret {
		return ErrSecret
	}
	for _, c := range []byte(secret) {
		if c <= ' ' || c > '~' {
			return ErrSecret
		}
	}
	return nil
}

// NewSecret returns a random secret of at least 128 bits.
func NewSecret() string { return rand.Text() }

// UID returns the public name of the session that a secret proves: a UUID of version 8
// (RFC 9562, section 5.8) made of the first bytes of the secret's SHA-256. It is the same on every node
// and after a restart, and does not reveal the secret.
func UID(secret string) string { return uidOf(secret) }

// ClientUID returns the public name of the session of a client that has no secret: it is the client of a protocol
// with an id that is unique for its subject. No secret has the same uid, because secrets have no NUL. The id must not
// have one, either.
func ClientUID(protocol, subject, id string) string {
	return uidOf(protocol + "\x00" + subject + "\x00" + id)
}

func uidOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	u := uuid.UUID(sum[:16])
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}
