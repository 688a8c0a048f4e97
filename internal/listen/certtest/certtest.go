// Package certtest creates certificates for tests.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Pair is a self-signed certificate for 127.0.0.1, localhost and other names, and its key.
type Pair struct {
	Cert, Key []byte         // PEM
	Pool      *x509.CertPool // trusts the certificate
}

// Make creates a pair that expires at a time, which may be in the past.
func Make(expires time.Time, names ...string) (*Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "localhost"}, NotBefore: expires.Add(-365 * 24 * time.Hour), NotAfter: expires,
		DNSNames: append([]string{"localhost"}, names...), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	p := &Pair{Pool: x509.NewCertPool()}
	p.Cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	p.Key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	p.Pool.AppendCertsFromPEM(p.Cert)
	return p, nil
}

// Write writes the pair to files.
func (p *Pair) Write(certFile, keyFile string) error {
	return errors.Join(os.WriteFile(certFile, p.Cert, 0o600), os.WriteFile(keyFile, p.Key, 0o600))
}

// Files creates a pair that is valid for a day and writes it to a folder of the test.
func Files(t testing.TB) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	return certFile, keyFile, Replace(t, certFile, keyFile, time.Now().Add(24*time.Hour)).Pool
}

// Replace creates a pair that expires at a time, and writes it to files.
func Replace(t testing.TB, certFile, keyFile string, expires time.Time) *Pair {
	t.Helper()
	p, err := Make(expires)
	if err == nil {
		err = p.Write(certFile, keyFile)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}
