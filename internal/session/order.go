package session

import "sort"

// order has the sessions in the order in which they began, to be read page by page. Its zero value
// has none.
type order struct {
	rows []row // by rising number
	last uint64
	gone int // rows without a session
}

type row struct {
	no      uint64
	session *Session // nil: it is gone
}

// add puts a session last and returns its number.
func (o *order) add(s *Session) uint64 {
	o.last++
	o.rows = append(o.rows, row{o.last, s})
	return o.last
}

// after returns the index of the first row with a number above no.
func (o *order) after(no uint64) int {
	return sort.Search(len(o.rows), func(i int) bool { return o.rows[i].no > no })
}

// remove removes the session of a number, if it is there. Rows are dropped when more than half of
// them are empty.
func (o *order) remove(no uint64) {
	i := o.after(no) - 1
	if i < 0 || o.rows[i].no != no || o.rows[i].session == nil {
		return
	}
	o.rows[i].session = nil
	if o.gone++; o.gone <= len(o.rows)/2 {
		return
	}
	rows := make([]row, 0, len(o.rows)-o.gone)
	for _, r := range o.rows {
		if r.session != nil {
			rows = append(rows, r)
		}
	}
	o.rows, o.gone = rows, 0
}

// page appends the sessions of the next rows to list. It returns the number to go on after, and
// whether there are more.
func (o *order) page(list []*Session, no uint64, rows int) (page []*Session, next uint64, more bool) {
	i := o.after(no)
	end := min(i+rows, len(o.rows))
	for _, r := range o.rows[i:end] {
		if no = r.no; r.session != nil {
			list = append(list, r.session)
		}
	}
	return list, no, end < len(o.rows)
}
