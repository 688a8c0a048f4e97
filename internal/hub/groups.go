package hub

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// Group is a row of a list of groups: a group, or a name with all groups below it.
type Group struct {
	store.GroupInfo
	Subscribers int // streams that would get a message now, added up over the groups
	Groups      int // that the row covers
	Below       int // those of them that are below its name
}

// Listing asks for a list of groups.
type Listing struct {
	Filter group.Filter // the zero value: all, without the server's own groups unless Prefix begins with $
	Prefix string       // only names with this prefix
	Depth  int          // a name with more levels behind the last / of Prefix counts in the row of its first ones; 0: each group is a row
	Sort   GroupOrder
	Limit  int    // most rows; 0: all, only with SortName
	After  string // what the previous page returned as next
}

// GroupOrder is the order of a list of groups: by name, or the largest value first.
type GroupOrder string

// The orders. Rows with the same value are in the order of their names.
const (
	SortName        GroupOrder = "name"
	SortRate        GroupOrder = "rate"
	SortBytes       GroupOrder = "bytes"
	SortMessages    GroupOrder = "messages"
	SortNewest      GroupOrder = "newest" // last activity
	SortSubscribers GroupOrder = "subscribers"
)

// GroupOrders lists the orders.
var GroupOrders = []GroupOrder{SortName, SortRate, SortBytes, SortMessages, SortNewest, SortSubscribers}

func (o GroupOrder) value(g *Group) float64 {
	switch o {
	case SortRate:
		return g.Rate
	case SortBytes:
		return float64(g.Bytes)
	case SortMessages:
		return float64(g.Messages)
	case SortNewest:
		return float64(g.Newest)
	case SortSubscribers:
		return float64(g.Subscribers)
	}
	return 0
}

// CursorError reports that After is not what an earlier page returned.
type CursorError struct{ After string }

func (e *CursorError) Error() string {
	return fmt.Sprintf("%.80q is not the member next of a list with the same sort", e.After)
}

// groupsAtOnce is how many groups are read while the store's lock is held once. A POST waits that long for the lock. During
// lists of 100,000 groups the p99 of a POST is 3 to 5 times as long as without them if 512 groups are read at once, 1.6
// times if 32 are, and as long if 8 are; a list takes 0.5 to 0.65 s either way (BenchmarkPOSTDuringLists).
const groupsAtOnce = 8

// groupBatch is how many groups are read between two pauses.
const groupBatch = 512

// pause is how long a list waits after a batch. Without it, a list of 100,000 groups holds the store's lock for
// most of its time, also while the operating system runs other programs. On a busy machine the p99 of a POST was 2
// to 8 ms then.
const pause = 100 * time.Microsecond

// Groups yields the rows of a list, made of the groups that hold messages and that the grant covers. It stops
// at the first error of yield and returns it. If there are more rows than the limit, it returns what to pass as
// After to get the next ones.
//
// It reads the store page by page and keeps no more rows than the limit. In an order other than by name it
// examines all groups for each page of rows. A row whose value changes between two pages may be missed or come
// twice.
func (h *Hub) Groups(a *access.Grant, q *Listing, yield func(*Group) error) (next string, err error) {
	l, err := h.list(a, q)
	switch {
	case err != nil:
		return "", err
	case q.Sort == SortName:
		return l.byName(yield)
	}
	return l.byValue(yield)
}

// listing is the state of a list.
type listing struct {
	*Listing
	hub   *Hub
	grant *access.Grant
	query store.GroupQuery
	batch int // how many groups to read before the rows are made; 0: there are none
	fold  fold
	after groupCursor
}

// groupCursor is the row that a page ended with.
type groupCursor struct {
	time  int64 // of the rates of the first page, ms
	value float64
	name  string
}

func (h *Hub) list(a *access.Grant, q *Listing) (*listing, error) {
	l := &listing{Listing: q, hub: h, grant: a, query: store.GroupQuery{Prefix: q.Prefix}, batch: groupBatch}
	if f := q.Filter.Prefix(); strings.HasPrefix(f, q.Prefix) {
		l.query.Prefix = f
	} else if !strings.HasPrefix(q.Prefix, f) {
		l.batch = 0 // no name has both prefixes
	}
	if q.Depth > 0 {
		l.fold.levels = strings.Count(q.Prefix, "/") + q.Depth
	}
	var err error
	if l.after, err = q.cursor(); err != nil {
		return nil, err
	}
	l.query.Time = l.after.time
	if q.Sort == SortName {
		l.begin(q.After)
	}
	return l, nil
}

// Check returns a *CursorError if After is invalid.
func (q *Listing) Check() error {
	_, err := q.cursor()
	return err
}

// cursor reads After. The cursor of the first page has the present time. In the order by name, After is the name.
func (q *Listing) cursor() (groupCursor, error) {
	switch {
	case q.Sort == SortName:
		return groupCursor{name: q.After}, nil
	case q.After == "":
		return groupCursor{time: time.Now().UnixMilli(), value: math.Inf(1)}, nil
	}
	at, rest, _ := strings.Cut(q.After, ",")
	value, name, _ := strings.Cut(rest, ",")
	c := groupCursor{name: name}
	var err, err2 error
	c.time, err = strconv.ParseInt(at, 10, 64)
	c.value, err2 = strconv.ParseFloat(value, 64)
	if err != nil || err2 != nil || c.time <= 0 || math.IsNaN(c.value) || name == "" {
		return groupCursor{}, &CursorError{q.After}
	}
	return c, nil
}

// next returns the cursor behind a row.
func (l *listing) next(g *Group) string {
	if l.Sort == SortName {
		return g.Group
	}
	return strconv.FormatInt(l.after.time, 10) + "," + strconv.FormatFloat(l.Sort.value(g), 'g', -1, 64) + "," + g.Group
}

// begin starts the list behind the row with a name. A row is behind it even if its own group sorts before: with
// the depth 1, the row home follows the row home-x, because home/x sorts after home-x/y.
func (l *listing) begin(after string) {
	l.query.After = after
	levels := strings.Count(after, "/") + 1
	if after == "" || levels != l.fold.levels {
		return
	}
	l.query.After = after + "/\xff" // after all groups of its row
	for i := strings.LastIndexByte(after, '/') + 2; i < len(after); i++ {
		if after[i] >= '/' {
			continue
		}
		page, _ := l.hub.log.Groups(store.GroupQuery{Prefix: after[:i], Limit: 1})
		if len(page) > 0 && page[0].Group == after[:i] && l.wants(after[:i]) {
			l.fold.open = append(l.fold.open, Group{GroupInfo: page[0], Groups: 1, Subscribers: l.hub.countListeners([]string{after[:i]})[0]})
		}
	}
}

// wants reports whether the list includes a group.
func (l *listing) wants(name string) bool {
	switch {
	case !strings.HasPrefix(name, l.Prefix):
		return false
	case l.Filter != (group.Filter{}):
		if !l.Filter.Match(name) {
			return false
		}
	case strings.HasPrefix(name, "$") && !strings.HasPrefix(l.Prefix, "$"), direct(name):
		return false
	}
	return l.grant.Covers(group.Exact(name))
}

// each calls yield with each row until it returns false. counted says that the rows need their Subscribers.
func (l *listing) each(counted bool, yield func(*Group) bool) {
	l.fold.yield = yield
	for l.batch > 0 {
		infos, more := l.read()
		listeners := make([]int, len(infos))
		if counted {
			listeners = l.hub.listeners(infos)
		}
		for i := range infos {
			if !l.fold.add(&infos[i], listeners[i]) {
				return
			}
		}
		if !more {
			l.fold.close()
			return
		}
		time.Sleep(pause)
	}
}

// read returns the groups of the next batch that the list includes.
func (l *listing) read() (infos []store.GroupInfo, more bool) {
	l.query.Limit = min(l.batch, groupsAtOnce)
	for n := 0; n < l.batch; n += l.query.Limit {
		page, next := l.hub.log.Groups(l.query)
		infos = append(infos, slices.DeleteFunc(page, func(g store.GroupInfo) bool { return !l.wants(g.Group) })...)
		if l.query.After = next; next == "" {
			return infos, false
		}
	}
	return infos, true
}

// listeners returns how many streams would get a message to each of the groups.
func (h *Hub) listeners(infos []store.GroupInfo) []int {
	names := make([]string, len(infos))
	for i := range infos {
		names[i] = infos[i].Group
	}
	return h.countListeners(names)
}

// countListeners returns how many streams, at this hub and others, would get a message to each of the groups.
func (h *Hub) countListeners(names []string) []int {
	return h.cluster.addListeners(names, h.listenersHere(names))
}

// listenersHere is countListeners for this hub alone. A session between two of its polls counts: its next poll gets the
// message.
func (h *Hub) listenersHere(names []string) []int {
	return h.set.Listeners(names, h.polls.filters())
}

// byName yields the rows in the order of their names.
func (l *listing) byName(yield func(*Group) error) (next string, err error) {
	if l.Limit > 0 && l.Depth == 0 {
		l.batch = min(l.batch, l.Limit+1)
	}
	n, last := 0, ""
	l.each(true, func(g *Group) bool {
		if l.Limit > 0 && n == l.Limit {
			next = last
			return false
		}
		n++
		last = l.next(g)
		err = yield(g)
		return err == nil
	})
	return next, err
}

// byValue yields the rows with the largest values behind the cursor.
func (l *listing) byValue(yield func(*Group) error) (next string, err error) {
	best := top[Group]{limit: l.Limit, less: func(a, b *Group) int {
		return cmp.Or(cmp.Compare(l.Sort.value(b), l.Sort.value(a)), cmp.Compare(a.Group, b.Group))
	}}
	counted := l.Depth > 0 || l.Sort == SortSubscribers
	l.each(counted, func(g *Group) bool {
		if v := l.Sort.value(g); v < l.after.value || v == l.after.value && g.Group > l.after.name {
			best.add(g)
		}
		return true
	})
	rows, more := best.sorted()
	if !counted {
		infos := make([]store.GroupInfo, len(rows))
		for i := range rows {
			infos[i] = rows[i].GroupInfo
		}
		for i, n := range l.hub.listeners(infos) {
			rows[i].Subscribers = n
		}
	}
	for i := range rows {
		if err := yield(&rows[i]); err != nil {
			return "", err
		}
	}
	if more {
		next = l.next(&rows[len(rows)-1])
	}
	return next, nil
}

// fold adds up groups, which come in the order of their names, to rows of a number of levels. A row is complete
// when no later name can be below it. Until then it is open. home/x sorts after home-x, so that several rows may be
// open, each a prefix of the next one.
type fold struct {
	levels int // of a row's name; 0: each group is a row
	open   []Group
	yield  func(*Group) bool
}

// add adds a group. It returns false if yield did.
func (f *fold) add(g *store.GroupInfo, subscribers int) (more bool) {
	row := f.row(g.Group)
	for n := len(f.open) - 1; n >= 0 && complete(f.open[n].Group, g.Group); n-- {
		if !f.yield(&f.open[n]) {
			return false
		}
		f.open = f.open[:n]
	}
	own := Group{GroupInfo: *g, Subscribers: subscribers, Groups: 1}
	if row == "" {
		return f.yield(&own)
	}
	if len(row) < len(g.Group) {
		own.Group, own.Below = row, 1
	}
	for n := len(f.open) - 1; n >= 0; n-- {
		if f.open[n].Group == row {
			f.open[n].add(&own)
			return true
		}
	}
	f.open = append(f.open, own)
	return true
}

// row returns the name of the row of a group below which there may be others, or "".
func (f *fold) row(name string) string {
	if f.levels == 0 {
		return ""
	}
	left := f.levels
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		if left--; left == 0 {
			return name[:i]
		}
	}
	if left == 1 {
		return name
	}
	return ""
}

// complete reports whether no group from next on is below a row.
func complete(row, next string) bool {
	return !strings.HasPrefix(next, row) || next[len(row)] > '/'
}

// add adds a group below the row's name.
func (g *Group) add(other *Group) {
	if g.Oldest == 0 || other.Oldest > 0 && other.Oldest < g.Oldest {
		g.Oldest = other.Oldest
	}
	g.Newest = max(g.Newest, other.Newest)
	g.Messages += other.Messages
	g.Bytes += other.Bytes
	g.Rate = math.Round((g.Rate+other.Rate)*1000) / 1000
	g.Retained = g.Retained || other.Retained
	g.Subscribers += other.Subscribers
	g.Groups += other.Groups
	g.Below += other.Below
}

// close yields the rows that are still open.
func (f *fold) close() {
	for n := len(f.open) - 1; n >= 0 && f.yield(&f.open[n]); n-- {
	}
}
