package api_test

import (
	"cmp"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// escaped returns a name as one path segment.
func escaped(name string) string { return url.PathEscape(name) }

func TestGroupNameIsTheRestOfThePath(t *testing.T) {
	s := serve(t)
	for _, name := range []string{
		"foo", "home/kitchen/temp", "a%2Fb", "sp ace", "ünï/cödé", "\U0001F600", `quo"te`, `back\slash`, "<b>", "a&b=c", "a;b", "a?b",
		"100%", "%41", "a:b", "@", "~", "...", ".a", "a..", "-", "a$", "a/$b", "*", "{uid}", "will", "heartbeat", "v1/groups/x", "e\u0301", "\u00e9", "\u202e",
		strings.TrimSuffix(strings.Repeat("l/", 16), "/"), strings.Repeat("x", 255), strings.Repeat("ä", 127),
	} {
		st := s.listen("/v1/groups/" + escaped(name))
		if r := s.post("/v1/groups/"+escaped(name), "x"); r.Group != name {
			t.Errorf("%q became %q", name, r.Group)
		}
		for _, target := range []string{escaped(name), strings.ReplaceAll(escaped(name), "%2F", "/"), strings.ReplaceAll(escaped(name), "%2F", "%2f")} {
			if h := s.history(target); len(h.Messages) != 1 || h.Messages[0].Group != name {
				t.Errorf("%q as %s: %v", name, target, h.Messages)
			}
		}
		var m message
		if _, _, data := parseBlock(st.block()); json.Unmarshal([]byte(data), &m) != nil || m.Group != name {
			t.Errorf("%q arrives as %s", name, data)
		}
		both := s.listen("/v1/events?since=all&group=" + url.QueryEscape(name))
		if _, _, data := parseBlock(both.block()); !strings.Contains(data, `"msg":"x"`) {
			t.Errorf("%q in the query: %s", name, data)
		}
		s.wants(204, "", "DELETE /v1/groups/"+escaped(name), "")
		_, _ = st.Close(), both.Close()
	}
}

func TestInvalidNamesAreRefusedWithAnExplanation(t *testing.T) {
	s := serve(t)
	bad := []string{
		"", "/", "a/", "/a", "a//b", ".", "..", "a/./b", "a/../b", "a/..", "a\x00b", "a\nb", "a\rb\n", "\t", "\x7f",
		"\u0085", "\xff", "a/\xc3", "\xed\xa0\x80", strings.TrimSuffix(strings.Repeat("l/", 17), "/"), strings.Repeat("x", 256), strings.Repeat("ä", 128),
	}
	for _, name := range bad {
		path := escaped(name)
		for call, code := range map[string]string{
			"POST /v1/groups/": "group-invalid", "DELETE /v1/groups/": "filter-invalid",
			"GET /v1/retained/": "filter-invalid",
			"GET /v1/groups/":   "filter-invalid", "GET /v1/history/": "filter-invalid", "GET /v1/policies/": "filter-invalid",
			"PUT /v1/policies/": "filter-invalid", "GET /v1/presence/": "filter-invalid",
		} {
			if p := s.wants(400, code, call+path, "", "Content-Type", "application/json").problem(); len(p.Detail) < 15 {
				t.Errorf("%q: %q", name, p.Detail)
			}
		}
		s.wants(400, "filter-invalid", "GET /v1/events?group="+url.QueryEscape(name), "")
		s.wants(400, "filter-invalid", "GET /v1/groups?filter="+url.QueryEscape(name), "")
	}
	for _, path := range []string{"%2e%2e", "a/%2e%2e/b", "%2E/a", "..", "a/../b", "./a"} {
		s.wants(400, "group-invalid", "POST /v1/groups/"+path, "x")
		s.wants(400, "filter-invalid", "GET /v1/history/"+path, "")
	}
	for _, pattern := range []string{"+", "#", "a/+", "a/#", "a+", "#a", "+/b"} {
		s.wants(400, "group-invalid", "POST /v1/groups/"+escaped(pattern), "x")
	}
	for _, pattern := range []string{"#/a", "a/#/b", "a+", "a/b#", "++", "##", "#+"} {
		s.wants(400, "filter-invalid", "GET /v1/groups/"+escaped(pattern), "")
	}
	for _, own := range []string{"$", "$sys/stats", "$session/x", "$presence/foo", "$x"} {
		s.wants(400, "group-invalid", "POST /v1/groups/"+escaped(own), "x")
	}
	if h := s.history("%23"); len(h.Messages) > 0 {
		t.Errorf("something was appended: %v", h.Messages)
	}
}

func TestPayloadsCannotForgeEvents(t *testing.T) {
	s := serve(t)
	const evil = "\n\ndata: x\nid: 1\n\r\n\r\revent: bye\ndata: {}\n\n\u2028\u0085\x00"
	const name = "data: x: id"
	quoted, _ := json.Marshal(evil)
	streams := []*stream{s.listen("/v1/groups/foo"), s.listen("/v1/groups/foo?format=raw")}
	for _, c := range []struct{ media, body, raw string }{
		{"text/plain", evil, ""},
		{"application/json", string(quoted), evil},
		{"application/json", `{` + string(quoted) + `: ` + string(quoted) + "\n\n}", `{` + string(quoted) + `:` + string(quoted) + "}"},
		{"application/json", "[\n\n\"data: x\"\r\r,\n\n1]", `["data: x",1]`},
		{"application/x-ndjson", string(quoted) + "\r\n", evil},
		{"text/plain", ":comment\nretry: 1\nid\n", ""},
	} {
		r := s.post("/v1/groups/foo?event="+url.QueryEscape(name), c.body, "Content-Type", c.media)
		for _, st := range streams {
			block := st.block()
			_, id, data := parseBlock(block)
			lines := strings.Split(block, "\n")
			if id != r.ID || lines[1] != "event: "+name || strings.Contains(block, "\r") {
				t.Errorf("%q", block)
			}
			for _, line := range lines[2 : len(lines)-2] {
				if !strings.HasPrefix(line, "data: ") {
					t.Errorf("the line %q in %q", line, block)
				}
			}
			if want := lineFeeds(cmp.Or(c.raw, c.body)); st.raw && data != want || !st.raw && len(lines) != 5 {
				t.Errorf("%q is sent as %q", c.body, data)
			}
		}
	}
}

// lineFeeds replaces each line end by a line feed, as streams do.
func lineFeeds(s string) string { return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s) }

func TestFiltersInPaths(t *testing.T) {
	s := serve(t)
	s.post("/v1/groups/home", "0")
	s.post("/v1/groups/home/kitchen", "1")
	s.post("/v1/groups/home/kitchen/temp", "2")
	s.post("/v1/groups/office", "3")
	for target, want := range map[string]string{
		"home": `"0"`, "home/%23": `"0" "1" "2"`, "home/+": `"1"`, "home/%2B": `"1"`, "+": `"0" "3"`, "%23": `"0" "1" "2" "3"`,
		"+/%23": `"0" "1" "2" "3"`, "+/+/temp": `"2"`, "Home": "", "$sys/%23": "",
	} {
		if got := s.history(target).bodies(); got != want {
			t.Errorf("%s matches %s, want %s", target, got, want)
		}
	}
}
