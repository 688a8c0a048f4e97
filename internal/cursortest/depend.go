package cursortest

import (
	"strings"

	"github.com/watchbox-go/watchbox/internal/cursor"
)

// depend makes the positions in common/ depend on those in reader/ with a filter of the same name.
func (h *hub) depend() *hub {
	h.KeepFor("common/", "reader/", func(f *cursor.Filter) string {
		if strings.HasPrefix(f.Filter, "common/") {
			return f.Filter
		}
		return ""
	})
	return h
}

// reader returns a position of a reader that is away and names others.
func reader(key string, names ...string) *cursor.Position {
	p := away(pos(key, 1))
	for _, name := range append(names, "other") {
		p.Filters = append(p.Filters, cursor.Filter{Filter: name})
	}
	return p
}

// common returns a position that depends on others, and whose reader is away.
func common(key string) *cursor.Position { return away(pos(key, 1)) }

func (h *hub) exists(key string) bool { _, ok := h.Get(key); return ok }

func dependent(r *rig) {
	h := r.start().depend()
	want := func(key string, exists bool) {
		r.Helper()
		if h.exists(key) != exists {
			r.Fatalf("%s exists: %v", key, !exists)
		}
		if h.Named(key) != exists {
			r.Errorf("%s is named: %v", key, !exists)
		}
	}
	h.begin(reader("reader/1", "common/a", "common/b"))
	h.begin(reader("reader/2", "common/a"))
	for _, key := range []string{"common/a", "common/b", "common/c"} {
		h.begin(common(key))
	}
	h.begin(reader("reader/1", "common/b", "common/c"))
	want("common/a", true)
	h.Remove("reader/2")
	want("common/a", false)
	h.begin(reader("reader/1", "common/c"))
	want("common/b", false)
	want("common/c", true)
	here := common("common/c")
	here.Away = pos("", 1).Away
	h.begin(here)
	h.Remove("reader/1")
	if !h.exists("common/c") {
		r.Error("a position whose reader is here was removed")
	}
	h.Remove("common/c")
	h.begin(reader("reader/3", "common/d"))
	h.begin(common("common/d"))
	if h.log != nil {
		h.flush("reader/3")
		h.flush("common/d")
		for range 2 {
			h.crash()
			h = h.again().depend()
			want("common/d", true)
		}
	}
	if _, _, err := h.Claim(r.Context(), "reader/3"); err != nil {
		r.Fatal(err)
	}
	h.Remove("reader/3")
	eventually(r, "the position is removed", func() bool { return !h.exists("common/d") })
}

func dependentElsewhere(r *rig) {
	hubs := r.three()
	for _, h := range hubs {
		h.depend()
	}
	a, b, c := hubs[0], hubs[1], hubs[2]
	gone := func(what, key string, from []*hub) {
		r.Helper()
		eventually(r, what, func() bool {
			for _, h := range from {
				if h.exists(key) {
					return false
				}
			}
			return true
		})
	}
	b.begin(reader("reader/b", "common/1", "common/2"))
	c.begin(reader("reader/c", "common/1"))
	for _, h := range hubs {
		eventually(r, "all hubs know the readers", func() bool { return h.exists("reader/b") && h.exists("reader/c") })
	}
	a.begin(common("common/1"))
	a.begin(common("common/2"))
	a.flush("common/1")
	a.flush("common/2")
	b.Remove("reader/b")
	gone("the hub that has a position removes it", "common/2", hubs)
	if !a.exists("common/1") {
		r.Fatal("a position that is named was removed")
	}
	a.crash()
	c.Remove("reader/c")
	gone("another hub removes the position of one that has died", "common/1", hubs[1:])
}
