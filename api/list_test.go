package api_test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/api"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// paged is a log that delays the last pages of groups.
type paged struct {
	*memory.Log
	most int // the largest limit requested
	last chan struct{}
}

func (p *paged) Groups(q store.GroupQuery) ([]store.GroupInfo, string) {
	p.most = max(p.most, q.Limit)
	if q.After > "group/0800" {
		<-p.last
	}
	return p.Log.Groups(q)
}

// TestGroupsAreListedPageByPage reads the first groups before the store returns the last ones.
func TestGroupsAreListedPageByPage(t *testing.T) {
	log := &paged{Log: memory.New(memory.Options{}), last: make(chan struct{})}
	h, err := hub.New(log, hub.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(api.New(h, api.Options{Logger: hub.Defaults().Logger}))
	defer srv.Close()
	defer func() { _ = h.Close() }()
	s := &server{TB: t, addr: srv.Listener.Addr().String(), client: srv.Client()}
	const groups = 1000
	for i := range groups {
		s.post(fmt.Sprintf("/v1/groups/group/%04d", i), "x")
	}
	resp, err := http.Get(srv.URL + "/v1/groups")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for i := range groups {
		if !lines.Scan() || !strings.Contains(lines.Text(), fmt.Sprintf(`{"group":"group/%04d"`, i)) {
			t.Fatalf("line %d is %q: %v", i, lines.Text(), lines.Err())
		}
		if i == 100 {
			close(log.last)
		}
	}
	if text := lines.Text(); !strings.HasSuffix(text, "]}") || lines.Scan() {
		t.Errorf("the list ends with %q", text)
	}
	if log.most > 1000 {
		t.Errorf("%d groups were requested at once", log.most)
	}
}

func TestTooManyPoliciesAreRefused(t *testing.T) {
	log := memory.New(memory.Options{})
	h, err := hub.New(log, hub.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(api.New(h, api.Options{Logger: hub.Defaults().Logger}))
	defer srv.Close()
	defer func() { _ = h.Close() }()
	for n := 0; err == nil; n++ {
		if n > store.MaxPolicies {
			t.Fatalf("%d policies were accepted", n)
		}
		err = log.SetPolicy(filterOf(t, fmt.Sprint("a/", n)), store.Policy{MaxMessages: 1})
	}
	s := &server{TB: t, addr: srv.Listener.Addr().String(), client: srv.Client()}
	s.wants(507, "too-many-policies", "PUT /v1/policies/foo", `{"max_messages":1}`, "Content-Type", "application/json")
	s.wants(200, "", "PUT /v1/policies/a/1", `{}`, "Content-Type", "application/json")
	s.wants(200, "", "PUT /v1/policies/foo", `{"max_messages":1}`, "Content-Type", "application/json")
}

func filterOf(t *testing.T, s string) group.Filter {
	t.Helper()
	f, err := group.ParseFilter(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
