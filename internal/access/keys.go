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

// leastSecret is the least length of an HMAC secret, in bytes (RFC 7518, 3.2).
const leastSecret = 32

// leastRSA is the least size of an RSA key, in bits (RFC 7518, 3.3).
const leastRSA = 2048

// key verifies JWTs of the algorithms that belong to it.
type key struct {
	verify     any // []byte, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	algorithms []string
}

func (k *key) takes(alg string) bool { return slices.Contains(k.algorithms, alg) }

// readKey returns the key of a file: a PEM public key, or else a secret.
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
		return nil, fmt.Errorf("a secret needs at least %d bytes, and this one has %d: make one with openssl rand -base64 48", leastSecret, len(secret))
	}
	return &key{bytes.Clone(secret), []string{"HS256"}}, nil
}

// parsePEM returns the first public key of a PEM file, or the one of its first certificate.
func parsePEM(b []byte) (*key, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("the PEM block is damaged")
	}
	switch block.Type {
	case "PUBLIC KEY":
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the public key is damaged: %w", err)
		}
		return keyOf(public)
	case "RSA PUBLIC KEY":
		public, err := x509.ParsePKCS1PublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the public key is damaged: %w", err)
		}
		return keyOf(public)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the certificate is damaged: %w", err)
		}
		return keyOf(cert.PublicKey)
	}
	return nil, fmt.Errorf("a PEM block of type %.40q is no public key: a hub needs the public half alone (openssl pkey -pubout)", block.Type)
}

// keyOf binds a public key to the algorithms that belong to its type.
func keyOf(public crypto.PublicKey) (*key, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < leastRSA {
			return nil, fmt.Errorf("an RSA key needs at least %d bits, and this one has %d", leastRSA, bits)
		}
		return &key{k, []string{"RS256", "PS256"}}, nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, fmt.Errorf("an EC key must be on the curve P-256 (ES256), and this one is on %s", k.Curve.Params().Name)
		}
		return &key{k, []string{"ES256"}}, nil
	case ed25519.PublicKey:
		return &key{k, []string{"EdDSA"}}, nil
	}
	return nil, fmt.Errorf("a key of type %T cannot be used: use RSA, EC P-256 or Ed25519", public)
}
