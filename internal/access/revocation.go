package access

import (
	"sync"
	"time"
)

// Revocation makes JWTs invalid: the one with an id, or all of a subject that were issued before a time.
type Revocation struct {
	ID      string    `json:"jti,omitempty"`
	Subject string    `json:"sub,omitempty"`
	Before  time.Time `json:"before,omitzero"` // with Subject
}

// Check says what is missing.
func (r Revocation) Check() error {
	if (r.ID == "") == (r.Subject == "") || (r.Subject == "") != r.Before.IsZero() {
		return errNoRevocation
	}
	return nil
}

// revocations are those that are in force.
type revocations struct {
	mu       sync.RWMutex // guards what follows
	ids      map[string]bool
	subjects map[string]time.Time
}

// add puts a revocation in force. Of two for one subject the later time counts.
func (r *revocations) add(v Revocation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v.ID != "" {
		if r.ids == nil {
			r.ids = map[string]bool{}
		}
		r.ids[v.ID] = true
		return
	}
	if r.subjects == nil {
		r.subjects = map[string]time.Time{}
	}
	if r.subjects[v.Subject].Before(v.Before) {
		r.subjects[v.Subject] = v.Before
	}
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

// Revoke puts a revocation in force at once.
func (a *Authenticator) Revoke(v Revocation) error {
	if err := v.Check(); err != nil {
		return err
	}
	a.revoked.add(v)
	a.tell()
	return nil
}
