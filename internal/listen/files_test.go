package listen

import (
	"bytes"
	"encoding/pem"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/listen/certtest"
)

// pairRig is a certificate in files that a test changes.
type pairRig struct {
	*testing.T
	*files
	certFile, keyFile string
	log               lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newPairRig(t *testing.T) *pairRig {
	r := &pairRig{T: t}
	r.certFile, r.keyFile, _ = certtest.Files(t)
	var err error
	if r.files, err = readFiles(r.certFile, r.keyFile, slog.New(slog.NewTextHandler(&r.log, nil))); err != nil {
		t.Fatal(err)
	}
	return r
}

// write replaces a file.
func (r *pairRig) write(file string, text []byte) {
	r.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		r.Fatal(err)
	}
}

// other creates a pair without writing it to files.
func other(r *pairRig) *certtest.Pair {
	r.Helper()
	p, err := certtest.Make(time.Now().Add(time.Hour))
	if err != nil {
		r.Fatal(err)
	}
	return p
}

// has fails the test unless the certificate in use is p's.
func (r *pairRig) has(p *certtest.Pair) {
	r.Helper()
	c, err := r.certificate(nil)
	if err != nil {
		r.Fatal(err)
	}
	if !bytes.Equal(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), p.Cert) {
		r.Error("another certificate is in use")
	}
}

// logged fails the test unless the log has n occurrences of the text.
func (r *pairRig) logged(n int, text string) {
	r.Helper()
	if got := strings.Count(r.log.String(), text); got != n {
		r.Errorf("the log has %d lines with %q, want %d:\n%s", got, text, n, r.log.String())
	}
}

const cannotBeUsed = "the certificate files cannot be used"

func TestANewPairIsUsedWithinTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newPairRig(t)
		defer r.close()
		next := certtest.Replace(t, r.certFile, r.keyFile, time.Now().Add(time.Hour))
		time.Sleep(2 * time.Second)
		r.has(next)
		r.logged(1, "new connections use the new certificate")
		r.logged(0, cannotBeUsed)
	})
}

func TestAPairThatIsWrittenFileByFileIsNotReportedAsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newPairRig(t)
		defer r.close()
		next := other(r)
		r.write(r.certFile, next.Cert)
		time.Sleep(checkEvery + checkEvery/2)
		r.write(r.keyFile, next.Key)
		time.Sleep(2 * checkEvery)
		r.has(next)
		r.logged(0, cannotBeUsed)
	})
}

func TestABrokenPairIsLoggedOnceAndTheOldOneStays(t *testing.T) {
	for name, breaks := range map[string]func(*pairRig){
		"the key is invalid":    func(r *pairRig) { r.write(r.keyFile, []byte("none")) },
		"another key":           func(r *pairRig) { r.write(r.keyFile, other(r).Key) },
		"the key is missing":    func(r *pairRig) { _ = os.Remove(r.keyFile) },
		"no certificate":        func(r *pairRig) { r.write(r.certFile, nil) },
		"a half certificate":    func(r *pairRig) { r.write(r.certFile, []byte("-----BEGIN CERTIFICATE-----\nMIIB")) },
		"the files are folders": func(r *pairRig) { _ = os.Remove(r.certFile); _ = os.Mkdir(r.certFile, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newPairRig(t)
				defer r.close()
				old, _ := r.certificate(nil)
				breaks(r)
				time.Sleep(time.Minute)
				r.logged(1, cannotBeUsed)
				r.reload()
				r.logged(1, cannotBeUsed)
				if now, _ := r.certificate(nil); now != old {
					t.Error("the old pair is not in use")
				}
				_ = os.RemoveAll(r.certFile)
				next := certtest.Replace(t, r.certFile, r.keyFile, time.Now().Add(time.Hour))
				time.Sleep(2 * time.Second)
				r.has(next)
				breaks(r)
				time.Sleep(time.Minute)
				r.logged(2, cannotBeUsed)
			})
		})
	}
}

func TestReloadReadsTheFilesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newPairRig(t)
		defer r.close()
		next := certtest.Replace(t, r.certFile, r.keyFile, time.Now().Add(time.Hour))
		r.reload()
		r.has(next)
		r.write(r.keyFile, []byte("none"))
		r.reload()
		r.logged(1, cannotBeUsed)
		time.Sleep(time.Minute)
		r.logged(1, cannotBeUsed)
	})
}

func TestAnExpiredCertificateIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newPairRig(t)
		defer r.close()
		next := certtest.Replace(t, r.certFile, r.keyFile, time.Now().Add(-time.Hour))
		r.reload()
		r.has(next)
		r.logged(1, "the certificate has expired")
	})
}
