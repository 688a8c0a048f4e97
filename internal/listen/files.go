package listen

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// checkEvery is the interval at which certificate files are read. A change is noticed within two seconds.
const checkEvery = time.Second

// files is a certificate in two files that are read again when they change.
type files struct {
	cert, key string
	logger    *slog.Logger
	current   atomic.Pointer[tls.Certificate]

	mu       sync.Mutex // guards what follows
	read     pairState  // of the pair in use
	broken   pairState  // of a pair that could not be used when it was last read
	reported bool       // the broken pair was logged

	stop, done chan struct{}
}

// pairState identifies the content of the files, or the error of reading them.
type pairState [sha256.Size]byte

// readFiles reads a certificate and watches its files until close.
func readFiles(cert, key string, logger *slog.Logger) (*files, error) {
	f := &files{cert: cert, key: key, logger: logger, stop: make(chan struct{}), done: make(chan struct{})}
	pair, state, err := f.readPair()
	if err != nil {
		return nil, err
	}
	f.use(pair, state)
	go f.watch()
	return f, nil
}

func (f *files) close() {
	close(f.stop)
	<-f.done
}

func (f *files) watch() {
	defer close(f.done)
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f.check(false)
		case <-f.stop:
			return
		}
	}
}

// reload reads the files at once.
func (f *files) reload() { f.check(true) }

// check reads the files and uses a new pair. It logs a broken pair once, and only if the pair is found twice in
// a row or asked is set, because a program that renews a certificate writes one file after the other.
func (f *files) check(asked bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pair, state, err := f.readPair()
	switch {
	case err == nil && state == f.read:
		f.broken, f.reported = pairState{}, false
	case err == nil:
		f.use(pair, state)
		f.broken, f.reported = pairState{}, false
		f.logger.Info("the certificate files have changed: new connections use the new certificate", "file", f.cert, "expires", pair.Leaf.NotAfter)
	default:
		again := state == f.broken
		f.reported = f.reported && again
		f.broken = state
		if (asked || again) && !f.reported {
			f.reported = true
			f.logger.Error("the certificate files cannot be used: the hub keeps using the old certificate", "error", err)
		}
	}
}

func (f *files) use(pair *tls.Certificate, state pairState) {
	f.current.Store(pair)
	f.read = state
	if time.Now().After(pair.Leaf.NotAfter) {
		f.logger.Warn("the certificate has expired: clients refuse it", "file", f.cert, "expired", pair.Leaf.NotAfter)
	}
}

func (f *files) readPair() (*tls.Certificate, pairState, error) {
	cert, err := os.ReadFile(f.cert)
	if err != nil {
		return nil, sha256.Sum256([]byte(err.Error())), fmt.Errorf("tls-cert: %w", err)
	}
	key, err := os.ReadFile(f.key)
	if err != nil {
		return nil, sha256.Sum256([]byte(err.Error())), fmt.Errorf("tls-key: %w", err)
	}
	state := sha256.Sum256(fmt.Appendf(nil, "%d %s%s", len(cert), cert, key))
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, state, fmt.Errorf("the certificate %s and the key %s do not work: %w", f.cert, f.key, err)
	}
	return &pair, state, nil
}

// certificate returns the certificate for a new connection.
func (f *files) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.current.Load(), nil
}
