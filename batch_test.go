package watchbox_test

import (
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
)

func TestPublishBatchAppendsAllOrNoneAndRetainedReturnsItsMessages(t *testing.T) {
	hub, err := watchbox.New()
	if err != nil {
		t.Fatal(err)
	}
	defer hub.Close()
	ctx := t.Context()
	for want, batch := range map[string][]watchbox.Draft{
		"at least one message":                 {},
		`message 2: "a/+" is a pattern`:        {{Group: "b"}, {Group: "a/+"}},
		`message 1: "$sys/stats" is reserved`:  {{Group: "$sys/stats"}},
		`message 2: the event name "error"`:    {{Group: "b"}, {Group: "a", Event: "error"}},
		`message 1: the event name "session"`:  {{Group: "a", Event: "session"}},
		"message 1: json: unsupported type":    {{Group: "a", Msg: make(chan int)}},
		"message 1: ttl: -1ns is not from 1ms": {{Group: "a", TTL: -1}},
		"ttl: 999µs is not from 1ms to 520w":   {{Group: "a", TTL: 999 * time.Microsecond}},
		"ttl: 521w is not from 1ms to 520w":    {{Group: "a", TTL: 521 * 7 * 24 * time.Hour}},
	} {
		if _, _, err := hub.PublishBatch(ctx, batch); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	first, last, err := hub.PublishBatch(ctx, []watchbox.Draft{
		{Group: "a", Msg: "text", Retain: true, Event: "alarm"}, {Group: "b/c", Msg: []byte{0xff}, Retain: true},
		{Group: "b", Msg: map[string]int{"celsius": 93}, Retain: true, TTL: time.Hour},
	})
	if err != nil || first == "" || last <= first || !strings.HasSuffix(first, "-1") {
		t.Errorf("%q to %q: %v", first, last, err)
	}
	var got []string
	for m, err := range hub.Retained(ctx, "#") {
		if err != nil {
			t.Fatal(err)
		}
		if m.Time.IsZero() || m.ID == "" {
			t.Errorf("%+v", m)
		}
		got = append(got, m.Group+" "+m.Event+" "+string(m.Data))
	}
	if want := "a alarm text|b/c  \xff|b  {\"celsius\":93}"; strings.Join(got, "|") != want {
		t.Errorf("%q is retained, want %q", got, want)
	}
	for range hub.Retained(ctx, "#") {
		break // leaves the loop early
	}
	for filter, want := range map[string]string{"a//b": "empty level", "$session/#": "only the session itself"} {
		for _, err := range hub.Retained(ctx, filter) {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", filter, err)
			}
		}
	}
}
