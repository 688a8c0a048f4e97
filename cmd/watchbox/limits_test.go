package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox"
)

// TestDurationFlagsHaveLimits parses the command line in the same way as main. It does not start to listen.
func TestDurationFlagsHaveLimits(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		flag      string
		good, bad []string
		want      string
		command   []string
	}{
		{flag: "heartbeat", good: []string{"100ms", "1h"}, bad: []string{"99ms", "61m", "-1s", "15000w"}, want: " is not from 100ms to 1h"},
		{flag: "retry", good: []string{"1ms", "1h"}, bad: []string{"999us", "61m", "-1s", "15000w"}, want: " is not from 1ms to 1h"},
		{flag: "session-timeout", good: []string{"100ms", "1d"}, bad: []string{"99ms", "25h", "-1s", "15000w"}, want: " is not from 100ms to 24h"},
		{flag: "body-timeout", good: []string{"100ms", "1h"}, bad: []string{"99ms", "61m", "-1s", "15000w"}, want: " is not from 100ms to 1h"},
		{flag: "drain-delay", good: []string{"0s", "1h"}, bad: []string{"61m", "-1s", "15000w"}, want: " is not from 0s to 1h"},
		{flag: "idle-timeout", good: []string{"1s", "1d"}, bad: []string{"999ms", "25h", "-1s", "15000w"}, want: " is not from 1s to 24h"},
		{flag: "max-age", good: []string{"0s", "520w"}, bad: []string{"521w", "-1s", "15000w"}, want: " is not from 0s to 520w; 0 means no limit"},
		{flag: "fsync", good: []string{"always", "never", "1ms", "1h"}, bad: []string{"999us", "61m", "-1s", "15000w"}, want: " is not from 1ms to 1h, and neither always nor never"},
		{flag: "timeout", command: []string{"sub", "foo"}, bad: []string{"-1s"}, want: "--timeout must be 0 or more"},
		{flag: "max-wait", command: []string{"sub", "foo"}, bad: []string{"-1s", "0s"}, want: "--max-wait must be above 0"},
		{flag: "timeout", command: []string{"health"}, bad: []string{"-1s", "0s"}, want: "--timeout must be above 0"},
		{flag: "expires", command: []string{"token", "create", "x", "--token-file", dir + "/tokens"}, bad: []string{"-1s"}, want: "--expires must be 0 or more"},
	} {
		try := func(value string) error {
			if c.command != nil {
				return run(append(slices.Clone(c.command), "--"+c.flag+"="+value))
			}
			var line commands
			parser, err := newParser(&line)
			if err != nil {
				return err
			}
			if _, err := parser.Parse([]string{"serve", "--data-dir", t.TempDir(), "--" + c.flag + "=" + value}); err != nil {
				return err
			}
			hub, err := watchbox.New(line.Serve.options()...)
			if err != nil {
				return err
			}
			return hub.Close()
		}
		for _, value := range c.good {
			if err := try(value); err != nil {
				t.Errorf("--%s=%s: %v", c.flag, value, err)
			}
		}
		for _, value := range c.bad {
			err := try(value)
			_, usage := errors.AsType[usageError](err)
			if err == nil || !strings.Contains(err.Error(), c.flag) || !strings.Contains(err.Error(), c.want) || c.command != nil && !usage {
				t.Errorf("--%s=%s: %v, want %q", c.flag, value, err, c.want)
			}
		}
	}
}
