package jetstream

import (
	"strings"
	"testing"
)

func TestErrorsDoNotShowPasswords(t *testing.T) {
	for urls, want := range map[string]string{
		"nats://127.0.0.1:1":                            "nats://127.0.0.1:1",
		"nats://me:secret@127.0.0.1:1":                  "nats://127.0.0.1:1",
		"nats://secret@127.0.0.1:1,me:secret@127.0.0.1": "nats://127.0.0.1:1,127.0.0.1",
		"nats://me:se:/@cret@127.0.0.1:1":               "nats://127.0.0.1:1",
	} {
		if got := redacted(urls); got != want {
			t.Errorf("%s: %s, want %s", urls, got, want)
		}
	}
	l := &Log{opts: Options{URL: "nats://me:secret@127.0.0.1:1"}.withDefaults()}
	l.subjects = subjectsOf(l.opts.Stream)
	if err := l.connect(); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error is %v", err)
	}
}
