package hub

import (
	"slices"
	"strings"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// Group is what is known of a group, and how many streams would get a message of it now.
type Group struct {
	store.GroupInfo
	Subscribers int
}

// Groups returns the groups that a filter matches, by name. Those that nothing is held of are
// not among them.
func (h *Hub) Groups(f group.Filter) []Group {
	infos := slices.DeleteFunc(h.log.Groups(), func(g store.GroupInfo) bool { return !f.Match(g.Group) })
	slices.SortFunc(infos, func(a, b store.GroupInfo) int { return strings.Compare(a.Group, b.Group) })
	names := make([]string, len(infos))
	for i := range infos {
		names[i] = infos[i].Group
	}
	listeners := h.set.Listeners(names)
	out := make([]Group, len(infos))
	for i := range infos {
		out[i] = Group{infos[i], listeners[i]}
	}
	return out
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
