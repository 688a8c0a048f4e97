package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// Options configures an authenticator. The zero value accepts no token and allows anonymous callers nothing.
type Options struct {
	TokenFile string    // API tokens; "" for none
	JWT       *JWT      // nil: no JWTs
	Subscribe group.Set // filters that callers without a token may subscribe to
	Publish   group.Set // filters of groups that callers without a token may publish to
	Logger    *slog.Logger
	Now       func() time.Time // time.Now if nil
}

// Authenticator turns tokens into grants. Its methods may be called concurrently.
type Authenticator struct {
	opts      Options
	anonymous *Grant
	jwt       *verifier // or nil
	files     []*watched
	refresh   sync.Mutex // held during refreshFiles, which changes files
	keys      atomic.Pointer[[]*key]
	tokens    atomic.Pointer[apiTokens]
	cache     cache
	revoked   revocations

	mu      sync.Mutex // guards what follows
	changed []func()   // called when a grant may have become invalid

	stop    context.CancelFunc
	running sync.WaitGroup // the goroutines
}

// apiTokens holds the valid API tokens, and those that were removed since the start, by SHA-256.
type apiTokens struct {
	valid map[sum]*Grant
	gone  map[sum]bool
}

type sum = [sha256.Size]byte

// checkEvery is the interval at which files are checked. A change is noticed within two seconds.
const checkEvery = time.Second

// New reads the files and the key set that the options name, and watches them for changes until Close. It
// returns an error if one of them cannot be used.
func New(ctx context.Context, o Options) (*Authenticator, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Authenticator{opts: o, anonymous: &Grant{Subscribe: o.Subscribe, Publish: o.Publish, Anonymous: true}}
	a.tokens.Store(&apiTokens{})
	if o.TokenFile != "" {
		a.watch(o.TokenFile, a.loadTokens)
	}
	if o.JWT != nil {
		if err := a.watchJWT(ctx, *o.JWT); err != nil {
			return nil, err
		}
	}
	for _, f := range a.files {
		f.changed()
		if err := f.load(); err != nil {
			return nil, err
		}
	}
	ctx, a.stop = context.WithCancel(context.WithoutCancel(ctx))
	a.running.Go(func() { a.run(ctx, a.refreshFiles) })
	a.running.Go(func() { a.run(ctx, a.refreshKeySet) }) // a source that hangs must not delay the files
	return a, nil
}

// watchJWT sets up the verification of JWTs.
func (a *Authenticator) watchJWT(ctx context.Context, c JWT) error {
	if len(c.Keys) == 0 && c.KeySet == "" {
		return errors.New("jwt: a key file or a key set is required")
	}
	v := &verifier{parser: parserFor(c, a.opts.Now), now: a.opts.Now}
	a.jwt = v
	if c.KeySet != "" {
		v.set = newKeySet(c.KeySet, a.opts.Now)
		if v.set.remote {
			if err := v.set.refetch(ctx, 0); err != nil {
				return err
			}
		} else {
			a.watch(c.KeySet, func() error { return v.set.load(ctx) })
		}
	}
	for _, path := range c.Keys {
		a.watch(path, func() error { return a.loadKeys(c.Keys) })
	}
	return nil
}

func (a *Authenticator) watch(path string, load func() error) {
	a.files = append(a.files, &watched{path: path, load: load})
}

// loadKeys reads all key files: a token may be signed by any of them.
func (a *Authenticator) loadKeys(paths []string) error {
	keys := make([]*key, len(paths))
	for i, path := range paths {
		k, err := readKey(path)
		if err != nil {
			return err
		}
		keys[i] = k
	}
	a.keys.Store(&keys)
	return nil
}

// loadTokens reads the token file. Tokens that it no longer holds are revoked.
func (a *Authenticator) loadTokens() error {
	list, err := ReadTokens(a.opts.TokenFile, false)
	if err != nil {
		return err
	}
	old := a.tokens.Load()
	next := &apiTokens{valid: make(map[sum]*Grant, len(list)), gone: maps.Clone(old.gone)}
	for i := range list {
		var s sum
		_, _ = hex.Decode(s[:], []byte(list[i].SHA256)) // no error: parseTokens has checked it
		g := list[i].grant()
		g.apiToken = s
		next.valid[s] = g
		delete(next.gone, s)
	}
	for s := range old.valid {
		if next.valid[s] == nil {
			if next.gone == nil {
				next.gone = map[sum]bool{}
			}
			next.gone[s] = true
		}
	}
	a.tokens.Store(next)
	return nil
}

// run calls refresh every checkEvery until Close.
func (a *Authenticator) run(ctx context.Context, refresh func(context.Context)) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			refresh(ctx)
		}
	}
}

// Refresh reads changed files again, and the key set if it was not fetched lately. If that fails, it logs the
// error and keeps the tokens and keys that it has.
func (a *Authenticator) Refresh(ctx context.Context) {
	a.refreshFiles(ctx)
	a.refreshKeySet(ctx)
}

func (a *Authenticator) refreshFiles(context.Context) {
	a.refresh.Lock()
	defer a.refresh.Unlock()
	changed := false
	for _, f := range a.files {
		if !f.changed() && f.failed == "" {
			continue
		}
		if err := f.load(); err != nil { // try again: the reason may be another than the content, such as permissions
			if text := err.Error(); text != f.failed {
				f.failed = text
				a.opts.Logger.Error("access: reading a changed file failed: its earlier content stays in use", "error", err)
			}
			continue
		}
		f.failed = ""
		changed = true
	}
	if changed {
		a.notify()
	}
}

func (a *Authenticator) refreshKeySet(ctx context.Context) {
	v := a.jwt
	if v == nil || v.set == nil || !v.set.remote {
		return
	}
	if err := v.set.refetch(ctx, refreshAfter); err != nil && ctx.Err() == nil {
		a.opts.Logger.Warn("access: fetching the key set failed: the known keys stay in use", "error", err)
	}
	if v.set.takeChange() { // also if a token with an unknown kid caused the fetch
		a.notify()
	}
}

// OnChange registers f, which is called when grants may have become invalid or have changed. Current returns
// the state of each. f runs on the authenticator's goroutine or on that of a caller of Revoke or Refresh.
func (a *Authenticator) OnChange(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changed = append(a.changed, f)
}

// notify clears the cache and calls the functions registered with OnChange.
func (a *Authenticator) notify() {
	a.cache.clear()
	a.mu.Lock()
	list := a.changed
	a.mu.Unlock()
	for _, f := range list {
		f()
	}
}

// Close stops watching the files and the key set. It may be called on nil and more than once.
func (a *Authenticator) Close() error {
	if a == nil {
		return nil
	}
	a.stop()
	a.running.Wait()
	return nil
}

// Anonymous returns the grant of callers without a token.
func (a *Authenticator) Anonymous() *Grant { return a.anonymous }

// Authenticate returns the grant of a token, or ErrInvalid, ErrExpired or ErrRevoked. It may wait for a
// key set to be fetched, up to a few seconds.
func (a *Authenticator) Authenticate(ctx context.Context, token string) (*Grant, error) {
	s := sha256.Sum256([]byte(token))
	if strings.HasPrefix(token, tokenPrefix) {
		return a.apiToken(s)
	}
	g := a.cache.get(s)
	if g == nil {
		if a.jwt == nil {
			return nil, ErrInvalid
		}
		var err error
		if g, err = a.jwt.with(a.keys.Load()).verify(ctx, token); err != nil {
			return nil, err
		}
		a.cache.put(s, g)
	}
	return g, a.check(g)
}

func (a *Authenticator) apiToken(s sum) (*Grant, error) {
	list := a.tokens.Load()
	g := list.valid[s]
	switch {
	case g != nil && g.Expired(a.opts.Now()):
		return nil, ErrExpired
	case g != nil:
		return g, nil
	case list.gone[s]:
		return nil, ErrRevoked
	}
	return nil, ErrInvalid
}

// check returns ErrExpired or ErrRevoked if a JWT's grant is no longer valid.
func (a *Authenticator) check(g *Grant) error {
	switch {
	case g.Expired(a.opts.Now()):
		return ErrExpired
	case a.revoked.has(g):
		return ErrRevoked
	}
	return nil
}

// Current returns the present grant of the credential that an earlier grant belongs to, or an error if it is
// no longer valid. The grant of an API token may have changed in the meantime.
func (a *Authenticator) Current(g *Grant) (*Grant, error) {
	switch {
	case g.all || g.Anonymous:
		return g, nil
	case g.apiToken != sum{}:
		return a.apiToken(g.apiToken)
	}
	return g, a.check(g)
}

// with returns a copy of the verifier with the keys, or v itself if keys is nil.
func (v *verifier) with(keys *[]*key) *verifier {
	if keys == nil {
		return v
	}
	of := *v
	of.keys = *keys
	return &of
}
