package api_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// sessionRow is the part of a session in an answer that these tests look at.
type sessionRow struct {
	UID, State, Protocol string
	Sent, Lag            struct{ Messages, Bytes int }
	Disconnects          []struct{ Time, Reason string }
}

// sessionPage is an answer of GET /v1/sessions.
type sessionPage struct {
	Sessions []sessionRow
	Next     string
}

// sessionPages reads the whole list of sessions, limit at a time.
func (s *server) sessionPages(sort string, limit int) (rows []sessionRow) {
	s.Helper()
	for v := (url.Values{"sort": {sort}, "limit": {fmt.Sprint(limit)}}); ; {
		var page sessionPage
		s.wants(200, "", "GET /v1/sessions?"+v.Encode(), "").decode(s, &page)
		if len(page.Sessions) > limit || page.Next != "" && len(page.Sessions) < limit {
			s.Fatalf("%v: %d rows, next %q", v, len(page.Sessions), page.Next)
		}
		rows = append(rows, page.Sessions...)
		if page.Next == "" {
			return rows
		}
		v.Set("after", page.Next)
	}
}

func TestPagesOfSessionsHaveEachSessionOnce(t *testing.T) {
	s := serve(t)
	var uids []string
	for i := range 25 {
		st := s.listen(fmt.Sprintf("/v1/groups/g/%d", i%5))
		uids = append(uids, st.uid)
		s.post(fmt.Sprintf("/v1/groups/g/%d", i%5), strings.Repeat("x", i))
		_ = st.block()
	}
	for _, sort := range []string{"since", "lag", "sent"} {
		for _, limit := range []int{1, 4, 25, 100} {
			rows := s.sessionPages(sort, limit)
			if sort == "sent" {
				if !slices.IsSortedFunc(rows, func(a, b sessionRow) int { return b.Sent.Bytes - a.Sent.Bytes }) {
					t.Errorf("%+v", rows)
				}
				slices.SortFunc(rows, func(a, b sessionRow) int { return slices.Index(uids, a.UID) - slices.Index(uids, b.UID) })
			}
			var got []string
			for _, r := range rows {
				got = append(got, r.UID)
			}
			if !slices.Equal(got, uids) {
				t.Errorf("sort %s, limit %d: %v, want %v", sort, limit, got, uids)
			}
		}
	}
	for _, query := range []string{"limit=0", "sort=name", "sort=lag&after=x", "sort=lag&after=1,0", "after=1,x", "after="} {
		s.wants(400, "parameter-invalid", "GET /v1/sessions?"+query, "")
	}
	s.wants(400, "parameter-unknown", "GET /v1/sessions?prefix=x", "")
}

// TestSessionThatIsFurthestBehindComesFirst stops reading from two of many streams, one after the other.
func TestSessionThatIsFurthestBehindComesFirst(t *testing.T) {
	if wire == "h2" {
		t.Skip("net/http reads what an HTTP/2 client does not, up to 4 MiB: the stream is behind only for a moment")
	}
	s := serve(t)
	for range 5 {
		s.listen("/v1/groups/other")
	}
	stuck := func(group string) (uid string) {
		st := s.listen("/v1/groups/" + group)
		s.overfill(group)
		return st.uid
	}
	first, second := stuck("a"), stuck("b")
	for range 3 {
		s.listen("/v1/groups/other")
	}
	var rows []sessionRow
	eventually(t, "all other streams have caught up", func() bool {
		rows = s.sessionPages("lag", 2)
		return len(rows) == 10 && !slices.ContainsFunc(rows[2:], func(r sessionRow) bool { return r.Lag.Messages > 0 })
	})
	if rows[0].UID != first || rows[1].UID != second || rows[0].Lag.Messages == 0 || rows[1].Lag.Messages == 0 {
		t.Errorf("%+v, want %s and %s first", rows, first, second)
	}
}

func TestSessionShowsItsProtocolAndLastDisconnects(t *testing.T) {
	s := serve(t)
	secret := []string{"Watchbox-Session", secretOf("one")}
	get := func() (r sessionRow) {
		t.Helper()
		var page sessionPage
		s.wants(200, "", "GET /v1/sessions?sort=lag&limit=1", "").decode(t, &page)
		return page.Sessions[0]
	}
	protocol := map[bool]string{false: "http/1.1", true: "http/2"}[wire == "h2"]
	for i := range 6 {
		st := s.listen("/v1/groups/foo", secret...)
		if r := get(); r.Protocol != protocol || len(r.Disconnects) != min(i, 4) || r.State != "here" {
			t.Errorf("after %d streams: %+v", i, r)
		}
		_ = st.Close()
		eventually(t, "the session is lost", func() bool { return get().State == "lost" })
	}
	s.listen("/v1/groups/foo?heartbeat=100ms", secret...) // and sends no sign of life
	eventually(t, "the silent stream ends", func() bool { return get().State == "lost" })
	r := get()
	if len(r.Disconnects) != 4 || r.Disconnects[0].Reason != "heartbeat" || r.Disconnects[1].Reason != "closed" || r.Disconnects[0].Time < r.Disconnects[3].Time {
		t.Errorf("%+v", r)
	}
}
