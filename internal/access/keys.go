package access

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
)

// leastSecret is the minimum length of an HMAC secret, in bytes (RFC 7518, section 3.2).
const leastSecret = 32

// leastRSA is the minimum size of an RSA key, in bits (RFC 7518, section 3.3).
const leastRSA = 2048

// key verifies JWTs that are signed with one of its algorithms.
type key struct {
	verify     any // []byte, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	algorithms []string
}

// allows reports whether the key may verify JWTs of an algorithm.
func (k *key) allows(alg string) bool { return slices.Contains(k.algorithms, alg) }

// readKey returns the key in a file: a PEM public key or, if the file has no PEM block, a secret.
func readKey(path string) (*key, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("jwt key: %w", err)
	}
	k, err := parseKey(b)
	if err != nil {
		return nil, fmt.Errorf("jwt key %s: %w", path, err)
	}
	return k, nil
}

func parseKey(b []byte) (*key, error) {
	if bytes.Contains(b, []byte("-----BEGIN")) {
		return parsePEM(b)
	}
	secret := bytes.TrimSpace(b)
	if len(secret) < leastSecret {
		return nil, fmt.Errorf("the secret has %d bytes and needs at least %d: create one with openssl rand -base64 48", len(secret), leastSecret)
	}
	return &key{bytes.Clone(secret), []string{"HS256"}}, nil
}

// parsePEM returns the public key in the first block of a PEM file, which may be a certificate.
func parsePEM(b []byte) (*key, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("the PEM block is invalid")
	}
	switch block.Type {
	case "PUBLIC KEY":
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the public key is invalid: %w", err)
		}
		return keyOf(public)
	case "RSA PUBLIC KEY":
		public, err := x509.ParsePKCS1PublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the public key is invalid: %w", err)
		}
		return keyOf(public)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the certificate is invalid: %w", err)
		}
		return keyOf(cert.PublicKey)
	}
	return nil, fmt.Errorf("a PEM block of type %.40q is not a public key: the hub needs only the public key (openssl pkey -pubout)", block.Type)
}

// keyOf returns the key that verifies with a public key. Its algorithms follow from the key's type.
func keyOf(public crypto.PublicKey) (*key, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < leastRSA {
			return nil, fmt.Errorf("the RSA key has %d bits and needs at least %d", bits, leastRSA)
		}
		return &key{k, []string{"RS256", "PS256"}}, nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, fmt.Errorf("the EC key is on the curve %s and must be on P-256 (ES256)", k.Curve.Params().Name)
		}
		return &key{k, []string{"ES256"}}, nil
	case ed25519.PublicKey:
		return &key{k, []string{"EdDSA"}}, nil
	}
	return nil, fmt.Errorf("keys of type %T are not supported: use RSA, EC P-256 or Ed25519", public)
}
