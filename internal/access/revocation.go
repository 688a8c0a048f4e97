package access

import (
	"fmt"
	"sync"
	"time"
)

// Revocation makes JWTs invalid: the one with an id, or all of a subject that were issued before a time.
type Revocation struct {
	ID      string    `json:"jti,omitempty"`
	Subject string    `json:"sub,omitempty"`
	Before  time.Time `json:"before,omitzero"` // with Subject
}

// Limits of revocations.
const (
	maxRevocations = 100_000
	maxRevoked     = 256 // bytes of a jti or sub
)

// Errors of revocations.
var (
	ErrRevocation         = fmt.Errorf("a revocation is either a jti, or a sub with before, an RFC 3339 time: tokens issued earlier are revoked; both texts have at most %d bytes", maxRevoked)
	ErrTooManyRevocations = fmt.Errorf("the limit of %d revocations is reached: change the key instead", maxRevocations)
)

// check says what is missing.
func (r Revocation) check() error {
	if (r.ID == "") == (r.Subject == "") || (r.Subject == "") != r.Before.IsZero() || len(r.ID)+len(r.Subject) > maxRevoked {
		return ErrRevocation
	}
	return nil
}

// revocations are those that are in force.
type revocations struct {
	mu       sync.RWMutex // guards what follows
	ids      map[string]bool
	subjects map[string]time.Time
}

// add puts a revocation in force, and returns it. Of two for one subject the later time counts.
func (r *revocations) add(v Revocation) (Revocation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, known := r.subjects[v.Subject]
	if !known && !r.ids[v.ID] && len(r.ids)+len(r.subjects) >= maxRevocations {
		return v, ErrTooManyRevocations
	}
	if r.ids == nil {
		r.ids, r.subjects = map[string]bool{}, map[string]time.Time{}
	}
	if v.ID != "" {
		r.ids[v.ID] = true
		return v, nil
	}
	if before.After(v.Before) {
		v.Before = before
	}
	r.subjects[v.Subject] = v.Before
	return v, nil
}

// has reports whether a grant is revoked. A token that does not say when it was issued counts as old.
func (r *revocations) has(g *Grant) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if g.ID != "" && r.ids[g.ID] {
		return true
	}
	before, ok := r.subjects[g.Subject]
	return ok && g.Issued.Before(before)
}

// Revoke puts a revocation in force at once. It returns the revocation that is in force then, which may be
// wider.
func (a *Authenticator) Revoke(v Revocation) (Revocation, error) {
	if err := v.check(); err != nil {
		return v, err
	}
	v, err := a.revoked.add(v)
	if err == nil {
		a.tell()
	}
	return v, err
}
