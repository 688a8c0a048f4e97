package jetstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
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

// TestAConnectionThatIsLostIsNoErrorOfNATS: the log says already that NATS is away.
func TestAConnectionThatIsLostIsNoErrorOfNATS(t *testing.T) {
	for _, c := range []struct {
		err   error
		lines int
	}{
		{io.EOF, 0},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, 0},
		{fmt.Errorf("reconnect: %w", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), 0},
		{errors.New("a message is too large"), 1},
	} {
		var lines bytes.Buffer
		l := &Log{opts: Options{Logger: slog.New(slog.NewTextHandler(&lines, nil))}}
		l.failed(c.err)
		if n := bytes.Count(lines.Bytes(), []byte("\n")); n != c.lines {
			t.Errorf("%v: the log says %q", c.err, &lines)
		}
	}
}
