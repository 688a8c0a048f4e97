package jetstream

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestAStreamThatTheHubMadeIsAccepted(t *testing.T) {
	c := streamConfig("WATCHBOX", 3)
	if err := verify(&c); err != nil {
		t.Error(err)
	}
	c.Replicas, c.MaxBytes, c.MaxAge, c.Compression = 1, 1<<30, time.Hour, jetstream.S2Compression // an operator's choice
	if err := verify(&c); err != nil {
		t.Error(err)
	}
}

func TestAStreamThatBreaksAPromiseIsRefused(t *testing.T) {
	for want, change := range map[string]func(*jetstream.StreamConfig){
		"max_msgs":    func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = jetstream.DiscardNew, 1000 },
		"metadata":    func(c *jetstream.StreamConfig) { c.Metadata = nil },
		"subjects":    func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "other") },
		"retention":   func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
		"file":        func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"persist":     func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode },
		"no_ack":      func(c *jetstream.StreamConfig) { c.NoAck = true },
		"sealed":      func(c *jetstream.StreamConfig) { c.Sealed = true },
		"deny_purge":  func(c *jetstream.StreamConfig) { c.DenyPurge = true },
		"deny_delete": func(c *jetstream.StreamConfig) { c.DenyDelete = false },
		"direct":      func(c *jetstream.StreamConfig) { c.AllowDirect = false },
		"ttl":         func(c *jetstream.StreamConfig) { c.AllowMsgTTL = false },
		"atomic":      func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false },
		"rollup":      func(c *jetstream.StreamConfig) { c.AllowRollup = false },
		"per_subject": func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 },
		"duplicate":   func(c *jetstream.StreamConfig) { c.Duplicates = time.Second },
		"mirror":      func(c *jetstream.StreamConfig) { c.Mirror = &jetstream.StreamSource{Name: "x"} },
	} {
		c := streamConfig("WATCHBOX", 3)
		change(&c)
		if err := verify(&c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", want, err)
		}
	}
}
