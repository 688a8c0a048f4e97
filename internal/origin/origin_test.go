package origin

import (
	"net/url"
	"testing"
)

func TestOnlyTheSameOriginOrItsHTTPSUpgradeIsTrusted(t *testing.T) {
	for _, test := range []struct {
		one, other string
		want       bool
	}{
		{"http://hub/v1", "http://hub/other", true},
		{"http://hub:80/", "http://HUB/", true},
		{"https://hub/", "https://hub:443/", true},
		{"http://hub/", "https://hub/", true},
		{"http://hub:1234/", "https://hub/", true},
		{"http://[::1]:80/", "http://[::1]/", true},
		{"http://hub/", "https://hub:8443/", false},
		{"https://hub/", "http://hub/", false},
		{"http://hub/", "http://hub:1234/", false},
		{"http://hub/", "http://sub.hub/", false},
		{"http://hub/", "http://hub.example.org/", false},
		{"http://hub/", "http://hub@evil/", false},
	} {
		one, err1 := url.Parse(test.one)
		other, err2 := url.Parse(test.other)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if got := Trusts(one, other); got != test.want {
			t.Errorf("%s trusts %s: %v, want %v", test.one, test.other, got, test.want)
		}
	}
}
