package api_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox"
)

// groupPage is an answer of GET /v1/groups.
type groupPage struct {
	Groups []groupRow
	Next   string
}

type groupRow struct {
	groupInfo
	Groups, Below int // with depth
}

// pages reads a whole list of groups, limit rows at a time.
func (s *server) pages(limit int, query ...string) (rows []groupRow) {
	s.Helper()
	v := url.Values{"limit": {fmt.Sprint(limit)}}
	for i := 0; i < len(query); i += 2 {
		v.Set(query[i], query[i+1])
	}
	for {
		var page groupPage
		s.wants(200, "", "GET /v1/groups?"+v.Encode(), "").decode(s, &page)
		if len(page.Groups) > limit || page.Next != "" && len(page.Groups) < limit {
			s.Fatalf("%v: %d rows, next %q", v, len(page.Groups), page.Next)
		}
		rows = append(rows, page.Groups...)
		if page.Next == "" {
			return rows
		}
		v.Set("after", page.Next)
	}
}

// tree adds up groups as depth does, row by row.
func tree(list []groupInfo, prefix string, depth int) (rows []groupRow) {
	levels := strings.Count(prefix, "/") + depth
	for _, g := range list {
		if !strings.HasPrefix(g.Group, prefix) {
			continue
		}
		name := g.Group
		if l := strings.SplitN(name, "/", levels+1); len(l) > levels {
			name = strings.Join(l[:levels], "/")
		}
		i := slices.IndexFunc(rows, func(r groupRow) bool { return r.Group == name })
		if i < 0 {
			i = len(rows)
			rows = append(rows, groupRow{groupInfo: groupInfo{Group: name}})
		}
		r := &rows[i]
		r.Messages += g.Messages
		r.Bytes += g.Bytes
		r.Groups++
		if name != g.Group {
			r.Below++
		}
		r.Retained = r.Retained || g.Retained
		if r.Oldest = earlier(r.Oldest, g.Oldest); earlier(r.Newest, g.Newest) == r.Newest || r.Newest == "" {
			r.Newest = g.Newest
		}
	}
	return rows
}

// earlier returns the id with the smaller seq; "" is none.
func earlier(a, b string) string {
	if a == "" || b != "" && (len(b) < len(a) || len(b) == len(a) && b < a) {
		return b
	}
	return a
}

// fill publishes to random groups, among them such whose names sort between a group and those below it.
func fill(s *server, random *rand.Rand, groups int) {
	levels := []string{"a", "a-b", "a-", "b", "b!x", "c.d", "c", "é"}
	for range groups {
		name := levels[random.IntN(len(levels))]
		for range random.IntN(4) {
			name += "/" + levels[random.IntN(len(levels))]
		}
		path := "/v1/groups/" + url.PathEscape(name)
		if random.IntN(8) == 0 {
			path += "?retain=true"
		}
		var lines []string
		for range 1 + random.IntN(3) {
			lines = append(lines, fmt.Sprintf("%q", strings.Repeat("x", random.IntN(50))))
		}
		s.post(path, strings.Join(lines, "\n"), "Content-Type", "application/x-ndjson")
	}
}

// TestPagesOfATreeAddUpToThePlainList compares rows in pages with a plain sum over all groups.
func TestPagesOfATreeAddUpToThePlainList(t *testing.T) {
	s := serve(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	fill(s, random, 150)
	all := s.groups("")
	for _, prefix := range []string{"", "a", "a/", "c.d/c", "nothing"} {
		for depth := 1; depth <= 4; depth++ {
			want := tree(all, prefix, depth)
			for sort, value := range map[string]func(r groupRow) int64{
				"name":     func(groupRow) int64 { return 0 },
				"messages": func(r groupRow) int64 { return r.Messages },
				"bytes":    func(r groupRow) int64 { return r.Bytes },
			} {
				limit := 2 + random.IntN(60)
				got := s.pages(limit, "prefix", prefix, "depth", fmt.Sprint(depth), "sort", sort)
				slices.SortFunc(want, func(a, b groupRow) int {
					if sort == "name" {
						return cmp.Compare(inTree(a, prefix, depth), inTree(b, prefix, depth))
					}
					return cmp.Or(cmp.Compare(value(b), value(a)), cmp.Compare(a.Group, b.Group))
				})
				for i := range got {
					got[i].Rate = 0
				}
				if !slices.Equal(got, want) {
					t.Fatalf("prefix %q, depth %d, sort %s, limit %d:\n%+v, want\n%+v", prefix, depth, sort, limit, got, want)
				}
			}
		}
	}
}

// inTree returns the text by which a row sorts.
func inTree(r groupRow, prefix string, depth int) string {
	if strings.Count(r.Group, "/")+1 == strings.Count(prefix, "/")+depth {
		return r.Group + "/"
	}
	return r.Group
}

func TestPagesOfGroupsHaveEachGroupOnce(t *testing.T) {
	s := serve(t)
	fill(s, rand.New(rand.NewPCG(1, 2)), 100)
	all := s.groups("")
	listener := s.listen("/v1/groups/a/%23")
	eventually(t, "the stream is counted", func() bool { return s.groups("?filter=a/a")[0].Subscribers == 1 })
	for _, sort := range []string{"name", "rate", "bytes", "messages", "newest", "subscribers"} {
		rows := s.pages(7, "sort", sort)
		var names []string
		for i, r := range rows {
			names = append(names, r.Group)
			if want := map[bool]int{true: 1}[r.Group == "a" || strings.HasPrefix(r.Group, "a/")]; r.Subscribers != want {
				t.Errorf("sort %s: %s has %d subscribers, want %d", sort, r.Group, r.Subscribers, want)
			}
			if i == 0 || sort == "name" {
				continue
			}
			before := rows[i-1]
			if sorted := map[string]bool{
				"rate": before.Rate >= r.Rate, "bytes": before.Bytes >= r.Bytes, "messages": before.Messages >= r.Messages,
				"newest": earlier(before.Newest, r.Newest) == r.Newest, "subscribers": before.Subscribers >= r.Subscribers,
			}; !sorted[sort] {
				t.Errorf("sort %s: %+v comes before %+v", sort, before, r)
			}
		}
		if sort == "name" && !slices.IsSorted(names) {
			t.Error("the names are not sorted")
		}
		slices.Sort(names)
		if got := slices.Compact(slices.Clone(names)); len(got) != len(names) || len(names) != len(all) {
			t.Errorf("sort %s: %d rows of %d groups, want %d", sort, len(names), len(got), len(all))
		}
	}
	_ = listener.Close()
	for _, name := range []string{"bb/xyz", "bc/xyz", "cb/xyz", "bb/x"} {
		s.post("/v1/groups/"+name, "x")
	}
	if rows := s.pages(1, "filter", "+/xyz", "prefix", "b"); len(rows) != 2 || rows[0].Group != "bb/xyz" || rows[1].Group != "bc/xyz" {
		t.Errorf("filter and prefix: %+v", rows)
	}
	if rows := s.pages(5, "filter", "a/#", "prefix", "b"); rows != nil {
		t.Errorf("filter and prefix that exclude each other: %+v", rows)
	}
}

func TestListOfGroupsRefusesBadParameters(t *testing.T) {
	s := serve(t)
	s.post("/v1/groups/a", "x")
	for _, query := range []string{
		"depth=0", "depth=17", "depth=x", "sort=size", "limit=0", "limit=-1", "after=", "prefix=a/%23", "prefix=%ff", "prefix=" + strings.Repeat("x", 256),
		"sort=rate&after=a", "sort=rate&after=1,NaN,a", "sort=rate&after=x,1,a", "sort=rate&after=1,1,", "depth=1&depth=2",
	} {
		s.wants(400, "parameter-invalid", "GET /v1/groups?"+query, "")
	}
	s.wants(403, "filter-forbidden", "GET /v1/groups?prefix=$session/", "")
}

func TestPrefixWithDollarListsTheServersGroups(t *testing.T) {
	s := serve(t)
	st := s.listen("/v1/groups/foo")
	s.post("/v1/groups/foo", "x")
	s.post("/v1/sessions/"+st.uid, "private")
	rows := s.pages(10, "prefix", "$", "depth", "1")
	if len(rows) != 1 || rows[0].Group != "$presence" || rows[0].Below != 1 || rows[0].Groups != 1 {
		t.Errorf("%+v", rows)
	}
	if rows := s.pages(10, "depth", "1"); len(rows) != 1 || rows[0].Group != "foo" {
		t.Errorf("%+v", rows)
	}
}

// TestListOfGroupsWithoutLimitIsComplete lists more groups than a page has by default.
func TestListOfGroupsWithoutLimitIsComplete(t *testing.T) {
	s := serve(t)
	var lines []string
	for i := range 2500 {
		lines = append(lines, fmt.Sprintf(`{"group":"g/%d","msg":1}`, i))
	}
	for batch := range slices.Chunk(lines, 1000) {
		s.batch(batch...)
	}
	for query, want := range map[string]int{"": 2500, "?prefix=g/": 2500, "?sort=bytes": 1000, "?after=g": 1000, "?depth=2": 2500, "?depth=1": 1, "?limit=2000": 2000} {
		var page groupPage
		s.wants(200, "", "GET /v1/groups"+query, "").decode(s, &page)
		if len(page.Groups) != want || (page.Next != "") != (want == 1000 || want == 2000) {
			t.Errorf("%q: %d rows, want %d; next %q", query, len(page.Groups), want, page.Next)
		}
	}
}

// TestSumsCountOnlyGroupsThatTheTokenAllows lists a tree with a grant for a part of it.
func TestSumsCountOnlyGroupsThatTheTokenAllows(t *testing.T) {
	s := serve(t, watchbox.WithAnonymousSubscribe("a/b/#", "c"), watchbox.WithAnonymousPublish("#"))
	for _, name := range []string{"a", "a/b", "a/b/c", "a/c", "b", "c", "c/d"} {
		s.post("/v1/groups/"+name, "x")
	}
	rows := s.pages(10, "depth", "1", "sort", "messages")
	if len(rows) != 2 || rows[0].Group != "a" || rows[0].Messages != 2 || rows[0].Below != 2 || rows[1].Group != "c" || rows[1].Messages != 1 {
		t.Errorf("%+v", rows)
	}
}
