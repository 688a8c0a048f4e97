package store

import (
	"slices"
	"sort"
	"strings"
)

// Names is a map from group names to values that is sorted by name and read page by page. Its zero
// value is empty. It is not safe for concurrent use.
type Names[T any] struct {
	pages [][]named[T] // sorted, none empty
}

type named[T any] struct {
	name  string
	value T
}

// maxNames is the most entries of a page, and so the most that an insertion moves.
const maxNames = 512

// page returns the index of the page where a name belongs.
func (t *Names[T]) page(name string) int {
	return max(sort.Search(len(t.pages), func(i int) bool { return t.pages[i][0].name > name })-1, 0)
}

func search[T any](page []named[T], name string) (int, bool) {
	return slices.BinarySearchFunc(page, name, func(e named[T], name string) int { return strings.Compare(e.name, name) })
}

// Put sets the value of a name.
func (t *Names[T]) Put(name string, value T) {
	if len(t.pages) == 0 {
		t.pages = append(t.pages, []named[T]{{name, value}})
		return
	}
	p := t.page(name)
	i, found := search(t.pages[p], name)
	if found {
		t.pages[p][i].value = value
		return
	}
	t.pages[p] = slices.Insert(t.pages[p], i, named[T]{name, value})
	if page := t.pages[p]; len(page) > maxNames {
		half := len(page) / 2
		t.pages = slices.Insert(t.pages, p+1, slices.Clone(page[half:]))
		t.pages[p] = slices.Clone(page[:half])
	}
}

// Delete removes a name, if it is there.
func (t *Names[T]) Delete(name string) {
	if len(t.pages) == 0 {
		return
	}
	p := t.page(name)
	i, found := search(t.pages[p], name)
	if !found {
		return
	}
	if t.pages[p] = slices.Delete(t.pages[p], i, i+1); len(t.pages[p]) == 0 {
		t.pages = slices.Delete(t.pages, p, p+1)
	}
}

// Walk yields at most limit names that sort after the given one and have the prefix. It returns the
// name after which to continue, or "" at the end.
func (t *Names[T]) Walk(after, prefix string, limit int, yield func(name string, value T)) (next string) {
	if len(t.pages) == 0 {
		return ""
	}
	from := max(after, prefix)
	p := t.page(from)
	i, found := search(t.pages[p], from)
	if found && from == after {
		i++
	}
	last := ""
	for ; p < len(t.pages); p, i = p+1, 0 {
		for ; i < len(t.pages[p]); i++ {
			e := &t.pages[p][i]
			switch {
			case !strings.HasPrefix(e.name, prefix):
				return ""
			case limit == 0:
				return last
			}
			limit--
			last = e.name
			yield(e.name, e.value)
		}
	}
	return ""
}
