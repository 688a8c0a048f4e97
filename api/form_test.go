package api_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
)

// Media types of bodies with parameters.
const (
	asForm = "application/x-www-form-urlencoded"
	asJSON = "application/json"
)

func TestStreamByPOSTIsTheStreamOfTheGET(t *testing.T) {
	s := serve(t)
	first := s.post("/v1/groups/a/b", "1")
	s.post("/v1/groups/other", "x")
	second := s.post("/v1/groups/c", "2")
	query := url.Values{"group": {"a/#", "c"}, "last_event_id": {first.ID}, "session": {secretOf("poster")}, "format": {"raw"}, "heartbeat": {"1h"}, "echo": {"false"}}
	get := s.open("/v1/events?" + query.Encode())
	want := get.block() + get.block()
	for name, sent := range map[string][2]string{
		"form":             {asForm, query.Encode()},
		"form, UTF-8":      {asForm + ";charset=UTF-8", query.Encode()},
		"no media type":    {"", query.Encode()},
		"JSON":             {asJSON, fmt.Sprintf(`{"group":["a/#","c"],"last_event_id":%q,"session":%q,"format":"raw","heartbeat":"1h","echo":false}`, first.ID, secretOf("poster"))},
		"JSON as a form":   {asForm, fmt.Sprintf(` {"group":["a/#","c"],"last_event_id":%q,"session":%q,"format":"raw","heartbeat":"1h","echo":"false"}`, first.ID, secretOf("poster"))},
		"JSON, one filter": {asJSON, fmt.Sprintf(`{"group":"#","since":%q,"session":%q,"format":"raw","heartbeat":"1h","echo":false}`, position(second.ID, -1), secretOf("poster"))},
	} {
		post := s.openBy("POST /v1/events", sent[1], "Content-Type", sent[0])
		post.raw = true
		if got := post.block() + post.block(); name != "JSON, one filter" && got != want {
			t.Errorf("%s:\n%q, the GET's is\n%q", name, got, want)
		}
		for field := range get.header {
			if field != "Date" && post.header.Get(field) != get.header.Get(field) {
				t.Errorf("%s: %s is %q, the GET's is %q", name, field, post.header.Get(field), get.header.Get(field))
			}
		}
		_ = post.Close()
	}
	split := s.begin(s.openBy("POST /v1/events?group=query", "group=body&last=0", "Last-Event-ID", first.ID, "Watchbox-Session", secretOf("splitter")))
	for _, g := range []string{"query", "body"} {
		split.gets(frame(s.post("/v1/groups/"+g, g), "", `"`+g+`"`))
	}
}

func TestPOSTOfAStreamTakesALongListOfFilters(t *testing.T) {
	s := serve(t, watchbox.WithMaxFilters(1000))
	var list []string
	for i := range 1000 {
		list = append(list, strings.Repeat("x", 230)+fmt.Sprint(i))
	}
	st := s.begin(s.openBy("POST /v1/events", `{"group":["`+strings.Join(list, `","`)+`"]}`, "Content-Type", asJSON))
	st.gets(frame(s.post("/v1/groups/"+list[999], "x"), "", `"x"`))
	s.wants(400, "too-many-filters", "POST /v1/events", "group="+strings.Join(append(list, "y"), "&group="))
}

func TestInvalidBodiesOfASubscriptionAreRefused(t *testing.T) {
	s := serve(t)
	for _, c := range []struct {
		status      int
		code, media string
		body        string
	}{
		{400, "parameter-invalid", asForm, ""},
		{400, "parameter-invalid", asForm, "last=5"},
		{400, "parameter-invalid", asForm, "group=a&last=5&last=6"},
		{400, "parameter-invalid", asForm, "group=a&last=-1"},
		{400, "parameter-invalid", asJSON, `{"group":[]}`},
		{400, "parameter-invalid", asJSON, `{"group":"a","last":[1,2]}`},
		{400, "parameter-invalid", asJSON, `{"group":"a","last":1,"last":2}`},
		{400, "parameter-invalid", asJSON, `{"group":"a","last":1e1}`},
		{400, "parameter-unknown", asForm, "group=a&colour=red"},
		{400, "parameter-unknown", asJSON, `{"group":"a","colour":"red"}`},
		{400, "filter-invalid", asForm, "group=a%2F%2Fb"},
		{400, "filter-invalid", asJSON, `{"group":["a",""]}`},
		{400, "session-invalid", asForm, "group=a&session=short"},
		{400, "body-invalid", asForm, "group=%zz"},
		{400, "body-invalid", asJSON, ""},
		{400, "body-invalid", asJSON, "group=a"},
		{400, "body-invalid", asJSON, `["a"]`},
		{400, "body-invalid", asJSON, `{"group":"a"`},
		{400, "body-invalid", asJSON, `{"group":"a"}{}`},
		{400, "body-invalid", asJSON, `{"group":null}`},
		{400, "body-invalid", asJSON, `{"group":[["a"]]}`},
		{400, "body-invalid", asJSON, `{"group":{"a":1}}`},
		{400, "body-invalid", asForm, `{"group":`},
		{403, "filter-forbidden", asForm, "group=$session/x"},
		{413, "message-too-large", asForm, "group=" + strings.Repeat("x", 64<<10)},
		{415, "unsupported-media-type", "text/plain", "group=a"},
		{415, "unsupported-media-type", "multipart/form-data; boundary=x", "--x--"},
	} {
		if a := s.wants(c.status, c.code, "POST /v1/events", c.body, "Content-Type", c.media); a.problem().Detail == "" {
			t.Errorf("%s %q: no detail", c.media, c.body)
		}
	}
	s.wants(415, "unsupported-media-type", "POST /v1/events", "x", "Content-Encoding", "gzip")
	s.wants(406, "not-acceptable", "POST /v1/events", "group=a", "Accept", "application/json")
	if n := s.figure("streams"); n != 0 {
		t.Errorf("%v streams are open", n)
	}
}

func TestTokenInTheBodyOfASubscription(t *testing.T) {
	s := serveGuarded(t)
	token := strings.TrimPrefix(s.token("anna", subscribe("foo"))[1], "Bearer ")
	for media, body := range map[string]string{asForm: "group=foo&access_token=" + token, asJSON: `{"group":"foo","access_token":"` + token + `"}`} {
		st := s.begin(s.openBy("POST /v1/events", body, "Content-Type", media))
		a := s.wants(201, "", "POST /v1/groups/foo", "x", s.token("publisher", publish("foo"))...)
		var r receipt
		a.decode(t, &r)
		st.gets(frame(r, "", `"x"`))
		_ = st.Close()
	}
	s.wants(403, "forbidden", "POST /v1/events", "group=bar&access_token="+token)
	s.wants(401, "token-invalid", "POST /v1/events", "group=foo&access_token=nonsense")
	s.wants(401, "token-invalid", "POST /v1/events", "group=foo&access_token=")
	s.wants(400, "token-ambiguous", "POST /v1/events", "group=foo&access_token="+token, s.token("anna", subscribe("foo"))...)
	s.wants(400, "token-ambiguous", "POST /v1/events?access_token=other", "group=foo&access_token="+token)
}

// TestPageOfAnotherSiteCannotSubscribeByAForm: browsers send a form without a preflight, and the cookies with it.
func TestPageOfAnotherSiteCannotSubscribeByAForm(t *testing.T) {
	s := serve(t, watchbox.WithAllowOrigin("https://allowed.example"))
	for _, header := range [][]string{
		{"Origin", "https://evil.example"}, {"Origin", "null"}, {"Sec-Fetch-Site", "cross-site"},
		{"Origin", "https://evil.example", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "cross-site"},
	} {
		s.wants(403, "origin-not-allowed", "POST /v1/events", "group=foo", append(header, "Content-Type", asForm)...)
	}
	st := s.openBy("POST /v1/events", "group=foo", "Content-Type", asForm, "Origin", "https://allowed.example")
	if got := st.header.Get("Access-Control-Allow-Origin"); got != "https://allowed.example" {
		t.Errorf("Access-Control-Allow-Origin is %q", got)
	}
}

func TestPausingBodyOfASubscriptionTimesOut(t *testing.T) {
	if wire == "h2" {
		t.Skip("the test writes HTTP/1.1")
	}
	s := serve(t, watchbox.WithBodyTimeout(100*time.Millisecond))
	c := s.dial()
	c.write("POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\ngroup=")
	if a := c.response("POST"); a.status != 408 || a.code() != "body-timeout" {
		t.Errorf("%d %s", a.status, a.body)
	}
	c.ended()
}
