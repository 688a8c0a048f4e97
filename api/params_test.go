package api

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/hub"
)

// FuzzQuery checks that each query is accepted, or refused with a problem.
func FuzzQuery(f *testing.F) {
	for _, query := range []string{
		"", "since=all", "since=10m", "since=-1s", "since=2026-11-23T12:00:00+01:00", "since=0001-01-01T00:00:00Z", "since=4k7q9x-1042", "since=1e999h",
		"last=5", "last=99999999999", "last=1&since=all", "last_event_id=%00", "format=raw&echo=false&heartbeat=5s&session=0123456789abcdef", "heartbeat=1ns",
		"a;b", "%zz", "=", "&&", "since", "since=&since=", "event=a%0Ab", "ttl=1ms&retain=true", "ttl=2562047h47m16.854775807s", "event=" + "%F0%9F%98%80",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		r := &http.Request{URL: &url.URL{RawQuery: raw}, Header: http.Header{}}
		q, err := parameters(r, subscribeParameters...)
		if refused(t, err) {
			return
		}
		s, err := subscription(r, q)
		if !refused(t, err) {
			checkSubscription(t, s)
		}
		if p, err := publication(r, []string{"event", "ttl", "retain"}); !refused(t, err) && (p.TTL < 0 || len(p.Event) > 128) {
			t.Errorf("%q: %+v", raw, p)
		}
	})
}

// refused reports whether there is an error, and fails unless it is a client's error.
func refused(t *testing.T, err error) bool {
	if err == nil {
		return false
	}
	if p := problemOf(err); p == nil || p.status != http.StatusBadRequest || len(p.detail) < 10 {
		t.Errorf("%v is %+v", err, p)
	}
	return true
}

func checkSubscription(t *testing.T, s *hub.Subscription) {
	ways := 0
	for _, set := range []bool{s.From.All, !s.From.Since.IsZero(), s.From.Last != nil, s.From.Resume != ""} {
		if set {
			ways++
		}
	}
	if ways > 1 || s.From.Since.After(time.Now()) && s.From.Since.Year() > 9999 || s.Heartbeat < 0 || s.Heartbeat > hub.Heartbeats.Most {
		t.Errorf("%+v", s)
	}
}
