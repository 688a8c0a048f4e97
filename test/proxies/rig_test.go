//go:build unix

package proxies_test

import (
	"crypto/x509"
	"os/exec"
	"syscall"
	"testing"

	"github.com/watchbox-go/watchbox/internal/freeport"
	"github.com/watchbox-go/watchbox/internal/listen/certtest"
)

// kind is a proxy with the configuration of the page.
type kind struct {
	name    string
	unix    bool     // the hub listens on a Unix socket
	flags   []string // of the hub
	changes []change // alternatives that the page mentions

	write   func(r *rig, generation string) // writes the configuration; answers have its generation as X-Generation
	command func(r *rig) *exec.Cmd
	reload  func(r *rig)
	end     syscall.Signal

	idle []change // end a request after three seconds without data
	cuts bool     // idle ends a stream without heartbeats
}

// rig is a proxy in front of a hub.
type rig struct {
	*kind
	t         *testing.T
	hub       *hub
	dir       string
	addr      string // of the proxy, for https
	cert, key string
	pool      *x509.CertPool
	proxy     *process
}

// rig starts a hub, with flags, and the proxy in front of it, with changes of its configuration.
func (k *kind) rig(t *testing.T, flags []string, changes ...change) *rig {
	t.Helper()
	with := *k
	with.changes = append(k.changes[:len(k.changes):len(k.changes)], changes...)
	r := &rig{kind: &with, t: t, dir: tempDir(t), addr: freeport.Addr(t)}
	pair, err := certtest.Make(tomorrow(), domain)
	if err != nil {
		t.Fatal(err)
	}
	r.cert, r.key, r.pool = r.dir+"/cert.pem", r.dir+"/key.pem", pair.Pool
	if err := pair.Write(r.cert, r.key); err != nil {
		t.Fatal(err)
	}
	r.hub = serve(t, k.unix, append(flags, k.flags...)...)
	r.write(r, "1")
	r.start()
	return r
}

// start starts the proxy and waits until it answers.
func (r *rig) start() {
	r.t.Helper()
	r.proxy = start(r.t, r.command(r))
	r.await("1", "2")
}

// await waits until the proxy answers with one of the generations of its configuration.
func (r *rig) await(generations ...string) {
	r.t.Helper()
	eventually(r.t, "the proxy answers", func() bool {
		c := r.clientAt(r.t, "127.0.0.1", true)
		defer c.http.CloseIdleConnections()
		res, err := c.http.Get("https://" + domain + "/healthz")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		for _, g := range generations {
			if res.Header.Get("X-Generation") == g {
				return res.StatusCode == 200
			}
		}
		return false
	})
}

func (r *rig) change(generation string) {
	r.t.Helper()
	r.write(r, generation)
	r.reload(r)
	r.await(generation)
}
