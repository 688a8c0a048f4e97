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
		"max_msgs":           func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = jetstream.DiscardNew, 1000 },
		"metadata":           func(c *jetstream.StreamConfig) { c.Metadata = nil },
		"subjects":           func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "other") },
		"retention":          func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
		"file":               func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"persist":            func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode },
		"no_ack":             func(c *jetstream.StreamConfig) { c.NoAck = true },
		"sealed":             func(c *jetstream.StreamConfig) { c.Sealed = true },
		"deny_purge":         func(c *jetstream.StreamConfig) { c.DenyPurge = true },
		"deny_delete":        func(c *jetstream.StreamConfig) { c.DenyDelete = false },
		"direct":             func(c *jetstream.StreamConfig) { c.AllowDirect = false },
		"ttl":                func(c *jetstream.StreamConfig) { c.AllowMsgTTL = false },
		"atomic":             func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false },
		"rollup":             func(c *jetstream.StreamConfig) { c.AllowRollup = false },
		"per_subject":        func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 },
		"duplicate":          func(c *jetstream.StreamConfig) { c.Duplicates = time.Second },
		"max_msg_size":       func(c *jetstream.StreamConfig) { c.MaxMsgSize = 100 },
		"max_ack_pending":    func(c *jetstream.StreamConfig) { c.ConsumerLimits.MaxAckPending = 1 },
		"inactive_threshold": func(c *jetstream.StreamConfig) { c.ConsumerLimits.InactiveThreshold = time.Second },
		"max_consumers":      func(c *jetstream.StreamConfig) { c.MaxConsumers = 1 },
		"counter":            func(c *jetstream.StreamConfig) { c.AllowMsgCounter = true },
		"mirror":             func(c *jetstream.StreamConfig) { c.Mirror = &jetstream.StreamSource{Name: "x"} },
	} {
		c := streamConfig("WATCHBOX", 3)
		change(&c)
		if err := verify(&c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func bucketConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{Name: "KV_WATCHBOX_hubs", Subjects: []string{"$KV.WATCHBOX_hubs.>"}, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, MaxMsgs: -1, MaxBytes: -1, MaxMsgSize: -1}
}

func TestABucketThatBreaksAPromiseIsRefused(t *testing.T) {
	c := bucketConfig()
	if err := verifyBucket(&c); err != nil {
		t.Error(err)
	}
	c.MaxBytes, c.MaxMsgsPerSubject, c.Replicas = 10<<20, 5, 3 // an operator's choice
	if err := verifyBucket(&c); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*jetstream.StreamConfig){
		"subjects":                func(c *jetstream.StreamConfig) { c.Subjects = []string{"foo.>"} },
		"retention":               func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
		"storage":                 func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"max_age":                 func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"max_msgs must":           func(c *jetstream.StreamConfig) { c.MaxMsgs = 1 },
		"max_msgs_per_subject":    func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = -1 },
		"discard_new_per_subject": func(c *jetstream.StreamConfig) { c.DiscardNewPerSubject = true },
		"max_bytes":               func(c *jetstream.StreamConfig) { c.MaxBytes = 10 },
		"max_msg_size":            func(c *jetstream.StreamConfig) { c.MaxMsgSize = 5 },
		"no_ack":                  func(c *jetstream.StreamConfig) { c.NoAck = true },
		"sealed":                  func(c *jetstream.StreamConfig) { c.Sealed = true },
		"deny_purge":              func(c *jetstream.StreamConfig) { c.DenyPurge = true },
		"persist":                 func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode },
		"counter":                 func(c *jetstream.StreamConfig) { c.AllowMsgCounter = true },
		"mirror":                  func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "x"}} },
	} {
		c := bucketConfig()
		change(&c)
		if err := verifyBucket(&c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", want, err)
		}
	}
}
