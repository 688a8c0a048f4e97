package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

type groupInfo struct {
	Group           string
	Messages, Bytes int64
	Rate            float64
	Subscribers     int
	Retained        bool
	Oldest, Newest  string
}

// groups lists the groups for a query.
func (s *server) groups(query string) []groupInfo {
	s.Helper()
	var list struct{ Groups []groupInfo }
	s.wants(200, "", "GET /v1/groups"+query, "").decode(s, &list)
	return list.Groups
}

func TestGroupsAreListedByName(t *testing.T) {
	s := serve(t)
	if list := s.wants(200, "", "GET /v1/groups", "").body; list != `{"groups":[]}`+"\n" {
		t.Errorf("the empty list is %q", list)
	}
	first := s.post("/v1/groups/b/c", "x")
	last := s.post("/v1/groups/b/c", "y")
	s.post("/v1/groups/a?retain=true", "z")
	one, all := s.listen("/v1/groups/b/%23"), s.listen("/v1/groups/%23")
	s.listen("/v1/events?group=b/c&group=b/%2B")
	eventually(t, "all streams are counted", func() bool {
		return s.groups("?filter=b/c")[0].Subscribers == 3 && s.groups("?filter=a")[0].Subscribers == 1
	})
	list := s.groups("")
	if len(list) != 2 || list[0].Group != "a" || !list[0].Retained || list[0].Subscribers != 1 {
		t.Fatalf("%+v", list)
	}
	if g := list[1]; g.Messages != 2 || g.Bytes < 100 || g.Rate <= 0 || g.Oldest != first.ID || g.Newest != last.ID || g.Retained || g.Subscribers != 3 {
		t.Errorf("%+v", g)
	}
	_, _ = one.Close(), all.Close()
	eventually(t, "closed streams are not counted", func() bool { return s.groups("?filter=b/c")[0].Subscribers == 1 })
	for query, want := range map[string]int{"?filter=b/%23": 1, "?filter=a": 1, "?filter=%2B": 1, "?filter=nothing": 0, "?filter=%23": 2} {
		if got := len(s.groups(query)); got != want {
			t.Errorf("%s: %d groups, want %d", query, got, want)
		}
	}
	if own := s.groups("?filter=$presence/%23"); len(own) == 0 {
		t.Error("the server's own groups are not listed")
	}
	s.wants(400, "parameter-unknown", "GET /v1/groups?name=x", "")
	s.wants(400, "parameter-invalid", "GET /v1/groups?filter=a&filter=b", "")
	s.wants(400, "filter-invalid", "GET /v1/groups?filter=a//b", "")
	s.wants(403, "filter-forbidden", "GET /v1/groups?filter=$session/%23", "")
	s.wants(403, "filter-forbidden", "PUT /v1/policies/$session/%23", `{"max_messages":1}`, "Content-Type", "application/json")
}

func TestPurgeKeepsStreamsOpen(t *testing.T) {
	s := serve(t)
	st := s.listen("/v1/groups/foo")
	s.post("/v1/groups/foo?retain=true", "x")
	_ = st.block()
	s.post("/v1/groups/bar", "stays")
	for range 2 { // purging an empty group is no error
		if a := s.wants(204, "", "DELETE /v1/groups/foo", ""); a.body != "" {
			t.Errorf("%q", a.body)
		}
	}
	if h := s.history("%23"); h.bodies() != `"stays"` {
		t.Errorf("left: %s", h.bodies())
	}
	st.gets(frame(s.post("/v1/groups/foo", "y"), "", `"y"`))
	s.listen("/v1/groups/foo").gets(frame(s.post("/v1/groups/foo", "z"), "", `"z"`)) // no retained message is left
	s.wants(400, "parameter-unknown", "DELETE /v1/groups/foo?x=y", "")
	s.wants(400, "parameter-invalid", "DELETE /v1/groups/foo?%zz", "")
	s.wants(400, "filter-invalid", "DELETE /v1/groups/a//b", "")
	for _, own := range []string{"$session", "$session/" + st.uid, "$session/%23"} {
		s.wants(403, "filter-forbidden", "DELETE /v1/groups/"+own, "")
	}
}

func TestPatternPurgesAllMatchingGroups(t *testing.T) {
	s := serve(t)
	st := s.listen("/v1/groups/home/%23")
	const n = 200
	fill := func() (last receipt) {
		for i := range n {
			last = s.post(fmt.Sprintf("/v1/groups/home/%d/temp?retain=true", i), "x")
		}
		s.batch(`{"group":"home","msg":"home"}`, `{"group":"home/5","msg":"five","retain":true}`, `{"group":"homestead","msg":"other"}`)
		return last
	}
	for pattern, left := range map[string]int{"home/%23": 1, "home/%2B/temp": 3, "home/5/%23": n + 1, "%23": 0, "+/%23": 0, "nothing/%23": n + 3} {
		before := fill()
		s.listen("/v1/groups/%23") // a stream that has retained messages to send
		if a := s.wants(204, "", "DELETE /v1/groups/"+pattern, ""); a.body != "" {
			t.Errorf("%q", a.body)
		}
		if got := len(s.history("%23").Messages); got != left {
			t.Errorf("%s leaves %d messages, want %d", pattern, got, left)
		}
		if got, want := len(s.retained("home/%23").Messages), max(left-2, 0); pattern != "home/%2B/temp" && pattern != "home/5/%23" && got != want && left != 1 {
			t.Errorf("%s leaves %d retained messages, want %d", pattern, got, want)
		}
		if h := s.history("%23?since=" + position(before.ID, -1)); len(h.Gaps) == 0 && pattern != "nothing/%23" {
			t.Errorf("%s: there is no gap", pattern)
		}
		s.wants(204, "", "DELETE /v1/groups/%23", "")
	}
	if own := s.history("$presence/%23"); len(own.Messages) == 0 {
		t.Error("a wildcard in the first level has purged the server's own groups")
	}
	s.wants(204, "", "DELETE /v1/groups/$presence/%23", "")
	if own := s.history("$presence/%23"); len(own.Messages) > 0 {
		t.Errorf("left of presence: %v", own.Messages)
	}
	s.post("/v1/groups/home", "last")
	for block := ""; !strings.Contains(block, `"msg":"last"`); { // the stream is still open
		block = st.block()
	}
}

func TestPolicyIsSetReadInheritedAndRemoved(t *testing.T) {
	s := serve(t, watchbox.WithMaxMessages(50), watchbox.WithMaxAge(24*time.Hour))
	put := func(filter, policy string) string {
		return s.wants(200, "", "PUT /v1/policies/"+filter, policy, "Content-Type", "application/json").body
	}
	read := func(filter string) string { return s.wants(200, "", "GET /v1/policies/"+filter, "").body }
	form := `{"filter":"%s","max_messages":%d,"max_bytes":%d,"max_age":"%s","store":"%s","compress":%t,"slow":"%s","coalesce":"%s"}` + "\n"
	server := fmt.Sprintf(form, "home/kitchen", 50, 0, "24h0m0s", kind(), false, "catch-up", "0s")
	if got := read("home/kitchen"); got != server {
		t.Errorf("the server's policy is %s, want %s", got, server)
	}
	wide := fmt.Sprintf(form, "home/#", 10, 0, "24h0m0s", kind(), true, "skip", "100ms")
	if got := put("home/%23", `{"max_messages":10,"compress":true,"slow":"skip","coalesce":"100ms"}`); got != wide || read("home/%23") != wide {
		t.Errorf("the policy of the pattern is %s, want %s", got, wide)
	}
	narrow := fmt.Sprintf(form, "home/kitchen", 0, 1000, "1h0m0s", kind(), true, "disconnect", "0s")
	if got := put("home/kitchen", `{"max_messages":0,"max_bytes":1000,"max_age":"1h","slow":"disconnect","coalesce":"0s"}`); got != narrow {
		t.Errorf("the policy of the group is %s, want %s", got, narrow)
	}
	own := `{"filter":"home/kitchen","max_messages":0,"max_bytes":1000,"max_age":"1h0m0s","slow":"disconnect","coalesce":"0s"}` + "\n"
	for part, want := range map[string]string{
		"home/kitchen?part=effective": narrow, "home/kitchen?part=own": own, "home/kitchen?part=inherited": strings.Replace(wide, "home/#", "home/kitchen", 1),
		"home/%23?part=own":       `{"filter":"home/#","max_messages":10,"compress":true,"slow":"skip","coalesce":"100ms"}` + "\n",
		"home/cellar?part=own":    `{"filter":"home/cellar"}` + "\n",
		"home/%23?part=inherited": strings.Replace(server, "home/kitchen", "home/#", 1),
	} {
		if got := read(part); got != want {
			t.Errorf("%s is %s, want %s", part, got, want)
		}
	}
	s.wants(400, "parameter-invalid", "GET /v1/policies/home?part=mine", "")
	if got := read("home/cellar"); got != strings.Replace(wide, "home/#", "home/cellar", 1) {
		t.Errorf("the inherited policy is %s", got)
	}
	put("home/kitchen", `{}`)
	if got := read("home/kitchen"); got != strings.Replace(wide, "home/#", "home/kitchen", 1) {
		t.Errorf("after removal the policy is %s", got)
	}
	put("home/%23", ` {} `)
	if got := read("home/kitchen"); got != server {
		t.Errorf("after removal of all policies it is %s", got)
	}
}

// kind returns the default store of the tests' hubs.
func kind() store.Kind {
	if storeName == "disk" || storeName == "nats" {
		return store.Disk
	}
	return store.Memory
}

func TestPolicyChoosesTheStore(t *testing.T) {
	s := serve(t)
	put := func(status int, code, kind string) string {
		t.Helper()
		return s.wants(status, code, "PUT /v1/policies/foo", `{"store":"`+kind+`"}`, "Content-Type", "application/json").body
	}
	if kind() != store.Disk {
		put(422, "policy-invalid", "disk")
	}
	notWithNATS(t)
	s = serve(t, watchbox.WithDataDir(t.TempDir()))
	for _, kind := range []string{"memory", "disk"} {
		if got := put(200, "", kind); !strings.Contains(got, `"store":"`+kind+`"`) {
			t.Errorf("the policy is %s", got)
		}
		s.post("/v1/groups/foo", kind)
	}
	s.post("/v1/groups/bar", "between")
	if got := s.history("%23").bodies(); got != `"memory" "disk" "between"` {
		t.Errorf("the history is %s", got)
	}
}

func TestPolicyTakesEffectAtOnce(t *testing.T) {
	s := serve(t)
	for i := range 10 {
		s.post("/v1/groups/foo", fmt.Sprint(i))
	}
	s.wants(200, "", "PUT /v1/policies/foo", `{"max_messages":3}`, "Content-Type", "application/json")
	eventually(t, "the oldest are evicted", func() bool { return s.history("foo").bodies() == `"7" "8" "9"` })
	s.post("/v1/groups/foo", "10")
	eventually(t, "the oldest are evicted after the next message", func() bool { return s.history("foo").bodies() == `"8" "9" "10"` })
}

func TestInvalidPolicyIsRefused(t *testing.T) {
	s := serve(t)
	for body, want := range map[string]string{
		"": "400 body-invalid", "{": "400 body-invalid", "[]": "400 body-invalid", "null": "400 body-invalid", "{}{}": "400 body-invalid",
		`"x"`:                 "400 body-invalid",
		`{"max_message":1}`:   "422 policy-invalid",
		`{"max_messages":-1}`: "422 policy-invalid", `{"max_messages":1.5}`: "422 policy-invalid", `{"max_messages":"1"}`: "422 policy-invalid",
		`{"max_bytes":-1}`: "422 policy-invalid", `{"max_bytes":99999999999999999999}`: "422 policy-invalid",
		`{"max_age":"-1s"}`: "422 policy-invalid", `{"max_age":5}`: "422 policy-invalid", `{"max_age":"5"}`: "422 policy-invalid",
		`{"coalesce":"x"}`: "422 policy-invalid", `{"coalesce":"-1s"}`: "422 policy-invalid",
		`{"store":""}`: "422 policy-invalid", `{"store":"tape"}`: "422 policy-invalid", `{"slow":"drop"}`: "422 policy-invalid",
		`{"compress":"yes"}`:                             "422 policy-invalid",
		`{"slow":"` + strings.Repeat("x", 20<<10) + `"}`: "413 message-too-large",
	} {
		var status int
		var code string
		_, _ = fmt.Sscan(want, &status, &code)
		p := s.wants(status, code, "PUT /v1/policies/foo", body, "Content-Type", "application/json").problem()
		if len(p.Detail) < 20 || strings.Contains(p.Detail, "json:") || strings.Contains(p.Detail, "Go ") {
			t.Errorf("%s: %q", body, p.Detail)
		}
	}
	s.wants(415, "unsupported-media-type", "PUT /v1/policies/foo", "{}", "Content-Type", "text/plain")
	s.wants(415, "unsupported-media-type", "PUT /v1/policies/foo", "{}", "Content-Type", "application/json", "Content-Encoding", "gzip")
	for _, call := range []string{"PUT", "GET"} {
		s.wants(400, "parameter-unknown", call+" /v1/policies/foo?x=y", "{}", "Content-Type", "application/json")
		s.wants(400, "parameter-invalid", call+" /v1/policies/foo?%zz", "{}", "Content-Type", "application/json")
		s.wants(400, "filter-invalid", call+" /v1/policies/a//b", "{}", "Content-Type", "application/json")
	}
}

// TestListenersThatDoNotReadAreCounted has a stream that waits for its client and a session that polls.
func TestListenersThatDoNotReadAreCounted(t *testing.T) {
	s := serve(t)
	count := func(group string) int {
		t.Helper()
		for _, g := range s.groups("?prefix=" + group) {
			if g.Group == group {
				return g.Subscribers
			}
		}
		return 0
	}
	at := s.post("/v1/groups/polled", "x").ID
	poll := func(wait string) historyAnswer {
		t.Helper()
		return s.poll("/v1/history/polled?wait="+wait+"&since="+at, as("poller")...).gets("")
	}
	poll("0s")
	if n := count("polled"); n != 1 {
		t.Errorf("between two polls, the group has %d listeners, want 1", n)
	}
	s.wants(204, "", "DELETE /v1/sessions/"+session.UID(secretOf("poller")), "", as("poller")...)
	eventually(t, "a session that has ended is not counted", func() bool { return count("polled") == 0 })
	if wire == "h2" {
		return // net/http reads what an HTTP/2 client does not
	}
	st := s.listen("/v1/groups/slow")
	s.overfill("slow")
	if n := count("slow"); n != 1 {
		t.Errorf("while its client does not read, the group has %d listeners, want 1", n)
	}
	_ = st.Close()
	eventually(t, "a closed stream is not counted", func() bool { return count("slow") == 0 })
}
