package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// duplicates is how long the servers remember the ids of appends. An append is repeated for a few seconds.
const duplicates = 2 * time.Minute

// maxBatch is the most messages of an atomic batch.
const maxBatch = 1000

// Limits that a stream must allow.
const (
	minMsgSize     = 2 << 10          // for the notes of the log
	inactive       = 30 * time.Second // how long the consumer of a hub is kept that does not answer
	consumersOfHub = 2                // the servers may still have the one that is replaced
)

func streamConfig(name string, replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               name,
		Description:        "messages of Watchbox",
		Subjects:           subjectsOf(name).stored(),
		Retention:          jetstream.LimitsPolicy,
		Storage:            jetstream.FileStorage,
		Replicas:           replicas,
		Discard:            jetstream.DiscardOld,
		Duplicates:         duplicates,
		AllowDirect:        true,
		AllowMsgTTL:        true,
		AllowAtomicPublish: true,
		AllowRollup:        true,
		DenyDelete:         true,
		Metadata:           map[string]string{"watchbox": "1"},
	}
}

// verify returns an error that says what to change if a stream's configuration breaks a promise. An operator
// may set limits, number of replicas and compression.
func verify(c *jetstream.StreamConfig) error {
	want := subjectsOf(c.Name).stored()
	return refused(c, []fault{
		{c.Metadata["watchbox"] != "1", "it is not a stream of Watchbox (its metadata has no watchbox: 1): choose another name with --nats-stream, or remove the stream"},
		{!sameSubjects(c.Subjects, want), fmt.Sprintf("its subjects must be %q", want)},
		{c.Retention != jetstream.LimitsPolicy, "its retention must be limits"},
		{c.Storage != jetstream.FileStorage, "its storage must be file: with memory storage, messages are lost when the servers restart"},
		{c.Discard == jetstream.DiscardNew && c.MaxMsgs > 0, "max_msgs must not be set with the discard policy new: use max_bytes"},
		{c.PersistMode != jetstream.DefaultPersistMode, "its persist mode must be default: async loses acknowledged messages"},
		{c.NoAck, "it must acknowledge: no_ack must be false"},
		{c.Sealed, "it is sealed"},
		{c.DenyPurge, "deny_purge must be false: the hubs remove what policies no longer keep"},
		{!c.DenyDelete, "deny_delete must be true: hubs do not notice that single messages are deleted"},
		{!c.AllowDirect, "allow_direct must be true"},
		{!c.AllowMsgTTL, "allow_msg_ttl must be true"},
		{!c.AllowAtomicPublish, "allow_atomic must be true"},
		{!c.AllowRollup, "allow_rollup_hdrs must be true"},
		{c.MaxMsgsPerSubject > 0, "max_msgs_per_subject must not be set: use the policies of Watchbox"},
		{c.Duplicates < time.Minute, "its duplicate window must be at least a minute"},
		{c.MaxMsgSize > 0 && c.MaxMsgSize < minMsgSize, fmt.Sprintf("max_msg_size must be at least %d, or not be set", minMsgSize)},
		{c.ConsumerLimits.MaxAckPending > 0, "max_ack_pending must not be set in consumer_limits: the consumers of the hubs have no acknowledgements"},
		{c.ConsumerLimits.InactiveThreshold > 0 && c.ConsumerLimits.InactiveThreshold < inactive, fmt.Sprintf("inactive_threshold must be at least %v in consumer_limits, or not be set", inactive)},
		{c.MaxConsumers > 0 && c.MaxConsumers < consumersOfHub, "max_consumers must be at least two for each hub, or not be set"},
		{c.AllowMsgCounter, "allow_msg_counter must be false"},
		{c.Mirror != nil || len(c.Sources) > 0 || c.RePublish != nil || c.SubjectTransform != nil, "it must have no mirror, sources, republish or subject transform"},
	})
}

// fault is a setting of a stream that may break a promise.
type fault struct {
	bad  bool
	what string // what to change
}

// refused returns an error that says the first fault of a stream.
func refused(c *jetstream.StreamConfig, faults []fault) error {
	for _, f := range faults {
		if f.bad {
			return fmt.Errorf("the stream %s cannot be used: %s", c.Name, f.what)
		}
	}
	return nil
}

func sameSubjects(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	set := map[string]bool{}
	for _, s := range a {
		set[s] = true
	}
	for _, s := range b {
		if !set[s] {
			return false
		}
	}
	return true
}

// ensureStream returns the stream, which it creates if it does not exist.
func ensureStream(ctx context.Context, js jetstream.JetStream, name string, replicas int) (jetstream.Stream, error) {
	s, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = js.CreateStream(ctx, streamConfig(name, replicas))
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another hub was faster, with other replicas
			s, err = js.Stream(ctx, name)
		}
	}
	var refused *jetstream.APIError
	switch {
	case errors.As(err, &refused) && refused.ErrorCode == 10074:
		return nil, fmt.Errorf("the stream %s cannot be kept on %d servers: this NATS server is no part of a cluster; start a cluster, or pass --nats-replicas 1", name, replicas)
	case err != nil:
		return nil, fmt.Errorf("the stream %s: %w", name, advised(err, name))
	case leaderless(s.CachedInfo()):
		return nil, fmt.Errorf("the stream %s: %w", name, errNoLeader)
	}
	return s, verify(&s.CachedInfo().Config)
}
