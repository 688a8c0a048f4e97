package api_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox"
)

func TestExplainSaysWhyAndByWhichRule(t *testing.T) {
	s := serveGuarded(t)
	root, anna := s.token("root", administration), s.token("anna", grant{"subscribe": []string{"home/#"}, "publish": []string{"home/phone", "u/{uid}"}})
	type answer struct {
		Allowed, Admin, Anonymous   bool
		Rule, Reason, Code, Subject string
		Subscribe, Publish          []string
	}
	get := func(query string, header ...string) (v answer) {
		t.Helper()
		s.wants(200, "", "GET /v1/explain?"+query, "", header...).decode(t, &v)
		if v.Reason == "" || v.Allowed != (v.Code == "") {
			t.Errorf("%s: %+v", query, v)
		}
		return v
	}
	if v := get("action=subscribe&filter=home/%2B/temp", anna...); !v.Allowed || v.Rule != "home/#" || v.Subject != "anna" || len(v.Publish) != 2 {
		t.Errorf("%+v", v)
	}
	if v := get("action=publish&group=home/x", anna...); v.Allowed || v.Code != "forbidden" || !strings.Contains(v.Reason, "home/phone") {
		t.Errorf("%+v", v)
	}
	const uid = "5fb22bbe-3ba4-8928-b938-4f1a2661e1dd"
	if v := get("action=publish&group=u/"+uid+"&uid="+uid, anna...); !v.Allowed || v.Rule != "u/"+uid {
		t.Errorf("%+v", v)
	}
	if v := get("action=admin", root...); !v.Allowed || !v.Admin || v.Subject != "root" {
		t.Errorf("%+v", v)
	}
	if v := get("action=admin", anna...); v.Allowed {
		t.Errorf("%+v", v)
	}
	if v := get("action=admin&token=desk", root...); v.Subject != "desk" {
		t.Errorf("%+v", v)
	}
	if v := get("action=publish&group=x&anonymous=true", root...); v.Allowed || !v.Anonymous || v.Code != "token-missing" {
		t.Errorf("%+v", v)
	}
	written := url.QueryEscape(`{"sub":"anna","subscribe":["users/{sub}/#"]}`)
	if v := get("action=subscribe&filter=users/anna&grant="+written, root...); !v.Allowed || v.Rule != "users/anna/#" {
		t.Errorf("%+v", v)
	}
	explain := append([]string{"Watchbox-Explain", strings.TrimPrefix(root[1], "Bearer ")}, anna...)
	if v := get("action=admin", explain...); !v.Allowed || v.Subject != "root" {
		t.Errorf("%+v", v)
	}
	if v := get("action=admin", append([]string{"Watchbox-Explain", "nonsense"}, anna...)...); v.Allowed || v.Code != "token-invalid" {
		t.Errorf("%+v", v)
	}
	for _, query := range []string{"token=desk", "anonymous=true", "grant=" + written} {
		s.wants(403, "forbidden", "GET /v1/explain?action=admin&"+query, "", anna...)
	}
	s.wants(404, "token-unknown", "GET /v1/explain?action=admin&token=nobody", "", root...)
	for query, code := range map[string]string{
		"action=admin&group=x": "parameter-invalid", "action=publish": "parameter-invalid", "action=subscribe&group=x": "parameter-invalid", "": "parameter-invalid",
		"action=subscribe&filter=a//b": "filter-invalid", "action=publish&group=a/%2B": "group-invalid", "action=admin&x=y": "parameter-unknown",
		"action=admin&token=desk&anonymous=true": "parameter-invalid", "action=admin&grant=x": "parameter-invalid", "action=admin&uid=x": "parameter-invalid",
	} {
		s.wants(400, code, "GET /v1/explain?"+query, "", root...)
	}
	s.wants(401, "token-missing", "GET /v1/explain?action=admin", "")
}

func TestExplainToCallersWithoutATokenWhatTheyMayDo(t *testing.T) {
	i := newIssuer(t)
	s := serve(t, i.option(), watchbox.WithAnonymousSubscribe("public/#"))
	var v struct {
		Allowed, Anonymous bool
		Subscribe          []string
	}
	s.wants(200, "", "GET /v1/explain?action=subscribe&filter=public/a", "").decode(t, &v)
	if !v.Allowed || !v.Anonymous || !slices.Equal(v.Subscribe, []string{"public/#"}) {
		t.Errorf("%+v", v)
	}
	for _, query := range []string{"token=x", "grant={}", "anonymous=true"} {
		s.wants(401, "token-missing", "GET /v1/explain?action=admin&"+query, "")
	}
}

func TestExplainWithoutAuthentication(t *testing.T) {
	s := serve(t)
	for _, query := range []string{"", "&token=x", "&anonymous=true"} {
		var v struct{ Allowed bool }
		s.wants(200, "", "GET /v1/explain?action=admin"+query, "").decode(t, &v)
		if !v.Allowed {
			t.Errorf("%s is denied", query)
		}
	}
}
