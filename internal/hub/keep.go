package hub

import (
	"slices"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// Group is what is known of a group, and how many streams would get a message of it now.
type Group struct {
	store.GroupInfo
	Subscribers int
}

// groupPage is how many groups are looked at in one hold of the store's lock.
const groupPage = 512

// Groups yields the groups that a filter matches, by name, until yield fails. Groups that hold
// nothing are not among them. It reads page by page, so that it takes the memory of one page.
func (h *Hub) Groups(f group.Filter, yield func(*Group) error) error {
	for q := (store.GroupQuery{Prefix: f.Prefix(), Limit: groupPage}); ; {
		infos, next := h.log.Groups(q)
		infos = slices.DeleteFunc(infos, func(g store.GroupInfo) bool { return !f.Match(g.Group) })
		names := make([]string, len(infos))
		for i := range infos {
			names[i] = infos[i].Group
		}
		for i, n := range h.set.Listeners(names) {
			if err := yield(&Group{infos[i], n}); err != nil {
				return err
			}
		}
		if q.After = next; next == "" {
			return nil
		}
	}
}

// Epoch returns the epoch of the log's ids.
func (h *Hub) Epoch() string {
	_, newest := h.log.Bounds()
	return newest.Epoch
}

// SetPolicy replaces the policy of a filter; one that says nothing removes it.
func (h *Hub) SetPolicy(f group.Filter, p store.Policy) error {
	return closedError(h.log.SetPolicy(f, p))
}

// Policy returns what is in force for a filter.
func (h *Hub) Policy(f group.Filter) store.Policy { return h.log.Policy(f) }

// Purge evicts all that is held of a group.
func (h *Hub) Purge(name string) error {
	if err := group.CheckClient(name); err != nil {
		return err
	}
	return closedError(h.log.Purge(name))
}
