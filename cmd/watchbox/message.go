package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// message is a message from the hub.
type message struct {
	ID       string          `json:"id"`
	Group    string          `json:"group"`
	UID      string          `json:"uid"`
	Time     string          `json:"time"`
	Event    string          `json:"event"`
	Encoding string          `json:"encoding"`
	Msg      json.RawMessage `json:"msg"`

	data    []byte // the JSON object from the hub
	payload []byte // the published text, bytes or JSON
}

func parseMessage(data []byte) (*message, error) {
	m := &message{data: data}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("this is not a message from a hub: %w", err)
	}
	m.payload = m.Msg
	var text string
	if json.Unmarshal(m.Msg, &text) == nil {
		m.payload = []byte(text)
	}
	if m.Encoding == "base64" {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("message %s: %w", m.ID, err)
		}
		m.payload = b
	}
	return m, nil
}

// grace is how long a command may take to exit after SIGTERM.
const grace = 5 * time.Second

// execute runs a shell command for a message. It reports a command that fails and returns nil. If the command was
// stopped because ctx ended, execute returns an error, and the message counts as not handled.
func execute(ctx context.Context, command string, m *message) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(m.payload), os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "WATCHBOX_ID="+m.ID, "WATCHBOX_GROUP="+m.Group,
		"WATCHBOX_UID="+m.UID, "WATCHBOX_TIME="+m.Time, "WATCHBOX_EVENT="+m.Event)
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, grace
	err := cmd.Run()
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		fmt.Fprintf(os.Stderr, "watchbox: the command for %s: %v\n", m.ID, err)
		return nil
	}
	return err
}
