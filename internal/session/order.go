package session

import "sort"

// order is a list of the sessions in the order in which they began, which can be read page by page. The
// zero value is empty.
type order struct {
	rows  []row // by rising number
	last  uint64
	empty int // number of rows without a session
}

type row struct {
	no      uint64
	session *Session // nil if it was removed
}

// add appends a session and returns its number.
func (o *order) add(s *Session) uint64 {
	o.last++
	o.rows = append(o.rows, row{o.last, s})
	return o.last
}

// after returns the index of the first row with a number above no.
func (o *order) after(no uint64) int {
	return sort.Search(len(o.rows), func(i int) bool { return o.rows[i].no > no })
}

// remove removes the session with a number, if it is in the list. It deletes empty rows once they are
// more than half of all.
func (o *order) remove(no uint64) {
	i := o.after(no) - 1
	if i < 0 || o.rows[i].no != no || o.rows[i].session == nil {
		return
	}
	o.rows[i].session = nil
	if o.empty++; o.empty <= len(o.rows)/2 {
		return
	}
	rows := make([]row, 0, len(o.rows)-o.empty)
	for _, r := range o.rows {
		if r.session != nil {
			rows = append(rows, r)
		}
	}
	o.rows, o.empty = rows, 0
}

// page appends the sessions of the rows after number no to list, reading at most that many rows. It
// returns the number after which to continue, and whether there are more rows.
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
