package watchbox_test

import (
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
)

func TestDurationOptionsHaveLimits(t *testing.T) {
	const week = 7 * 24 * time.Hour
	policy := func(p watchbox.Policy) watchbox.Option { return watchbox.WithPolicy("foo", p) }
	for _, c := range []struct {
		name        string
		least, most time.Duration
		limits      string
		option      func(time.Duration) watchbox.Option
	}{
		{"heartbeat", 100 * time.Millisecond, time.Hour, "from 100ms to 1h", watchbox.WithHeartbeat},
		{"retry", time.Millisecond, time.Hour, "from 1ms to 1h", watchbox.WithRetry},
		{"session-timeout", 100 * time.Millisecond, 24 * time.Hour, "from 100ms to 24h", watchbox.WithSessionTimeout},
		{"body-timeout", 100 * time.Millisecond, time.Hour, "from 100ms to 1h", watchbox.WithBodyTimeout},
		{"drain-delay", 0, time.Hour, "from 0s to 1h", watchbox.WithDrainDelay},
		{"idle-timeout", time.Second, 24 * time.Hour, "from 1s to 24h", watchbox.WithIdleTimeout},
		{"max-age", 0, 520 * week, "from 0s to 520w", watchbox.WithMaxAge},
		{"fsync", time.Millisecond, time.Hour, "from 1ms to 1h", func(d time.Duration) watchbox.Option { return watchbox.WithFsync(watchbox.Fsync(d)) }},
		{"the policy of foo: max_age", 0, 520 * week, "from 0s to 520w", func(d time.Duration) watchbox.Option { return policy(watchbox.Policy{MaxAge: d}) }},
		{"the policy of foo: coalesce", 0, time.Hour, "from 0s to 1h", func(d time.Duration) watchbox.Option { return policy(watchbox.Policy{Coalesce: d}) }},
	} {
		try := func(d time.Duration) error {
			opts := []watchbox.Option{c.option(d)}
			if c.name == "fsync" {
				opts = append(opts, watchbox.WithDataDir(t.TempDir()))
			}
			hub, err := watchbox.New(opts...)
			if err == nil {
				err = hub.Close()
			}
			return err
		}
		for _, d := range []time.Duration{c.least, c.most} {
			if err := try(d); err != nil {
				t.Errorf("%s of %v: %v", c.name, d, err)
			}
		}
		for _, d := range []time.Duration{c.least - 2, c.most + 1, 1<<63 - 1} { // -1 may be Unbounded
			if err := try(d); err == nil || !strings.HasPrefix(err.Error(), "watchbox: "+c.name+": ") || !strings.Contains(err.Error(), " is not "+c.limits) {
				t.Errorf("%s of %v: %v, want that it is not %s", c.name, d, err, c.limits)
			}
		}
	}
}
