package access

import (
	"fmt"
	"sync"
	"time"
)

// Revocation makes JWTs invalid: the JWT with an id, or all JWTs of a subject that were issued before a time.
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
	ErrRevocation         = fmt.Errorf("a revocation needs either jti, or sub and before; before is an RFC 3339 time, and tokens issued earlier are revoked; jti and sub have at most %d bytes", maxRevoked)
	ErrTooManyRevocations = fmt.Errorf("the limit of %d revocations is reached: change the key instead", maxRevocations)
)

// check returns ErrRevocation if the revocation is not valid.
func (r Revocation) check() error {
	if (r.ID == "") == (r.Subject == "") || (r.Subject == "") != r.Before.IsZero() || len(r.ID)+len(r.Subject) > maxRevoked {
		return ErrRevocation
	}
	return nil
}

// revocations holds the revocations in force.
type revocations struct {
	mu       sync.RWMutex // guards what follows
	ids      map[string]bool
	subjects map[string]time.Time
}

// add puts a revocation in force and returns it. If the subject has a revocation already, the later of the
// two times applies.
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

// has reports whether a grant is revoked. A token without a time of issue counts as issued before any time.
func (r *revocations) has(g *Grant) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if g.ID != "" && r.ids[g.ID] {
		return true
	}
	before, ok := r.subjects[g.Subject]
	return ok && g.Issued.Before(before)
}

// Revoke puts a revocation in force at once. It returns the revocation that is then in force: for a subject
// that was revoked before, it may have a later time.
func (a *Authenticator) Revoke(v Revocation) (Revocation, error) {
	if err := v.check(); err != nil {
		return v, err
	}
	v, err := a.revoked.add(v)
	if err == nil {
		a.notify()
	}
	return v, err
}
