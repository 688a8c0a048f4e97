package watchbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/store/memory"
	"github.com/watchbox-go/watchbox/store/tiered"
)

// WithDataDir keeps messages on disk, except those of groups with the policy StoreMemory. The folder is
// created if it does not exist. Messages, ids, policies, retained messages, idempotency keys, last wills
// and presence survive a restart. One process at a time may use the folder.
func WithDataDir(dir string) Option {
	return func(c *config) error {
		if dir == "" {
			return errors.New("data-dir: the name of the folder is empty")
		}
		c.disk.Dir, c.open = dir, nil
		return nil
	}
}

// StoreOptions are the options of a hub that concern its store.
type StoreOptions struct {
	MaxMemory int64  // bytes of memory for history
	MaxGroups int    // 0: the store's default
	Server    Policy // of groups for which no policy is set
}

// WithStore keeps messages in the store that open returns instead of one of the hub's own. The hub closes it. The
// store has to keep the promises of package store, which package storetest tests. If it is a store.Noter, the hub
// continues with what it held before. WithStore replaces an earlier WithDataDir or WithNATS, and a later one
// replaces it.
func WithStore(open func(StoreOptions) (store.Store, error)) Option {
	return func(c *config) error {
		if open == nil {
			return errors.New("store: the function is nil")
		}
		c.disk.Dir, c.nats, c.open = "", jetstream.Options{}, open
		return nil
	}
}

// Fsync determines when messages are synced to disk. A value above 0 is the interval between two syncs.
type Fsync = disk.Fsync

// Values of Fsync that are not an interval.
const (
	FsyncAlways = disk.Always // before a POST is answered: nothing is lost, even in a power cut
	FsyncNever  = disk.Never  // left to the operating system
)

// ParseFsync reads "always", "never" or a duration such as "100ms".
func ParseFsync(s string) (Fsync, error) { return disk.ParseFsync(s) }

// WithFsync sets when messages are synced to disk; the default is FsyncAlways. With any other value the
// newest messages may be lost when the machine fails. Listeners then get a gap event.
func WithFsync(f Fsync) Option {
	return func(c *config) error {
		if err := disk.Intervals.Check(time.Duration(f)); err != nil && f != FsyncAlways && f != FsyncNever {
			return fmt.Errorf("fsync: %w, and neither FsyncAlways nor FsyncNever", err)
		}
		c.disk.Fsync = f
		return nil
	}
}

// leastDisk is the smallest disk, in bytes, that a store works with.
const leastDisk = 64 << 20

// WithMaxDisk limits the size of the data directory, in bytes; the oldest messages are evicted first. 0: no limit.
func WithMaxDisk(bytes int64) Option {
	return func(c *config) error {
		if bytes != 0 && bytes < leastDisk {
			return fmt.Errorf("max-disk: %d bytes are too few; the minimum is %d (64MiB)", bytes, leastDisk)
		}
		c.disk.MaxDisk = bytes
		return nil
	}
}

// history returns the part of the memory for history. The rest is for the process itself, half of it for the
// pages of the binary.
func history(maxMemory int64) int64 {
	const process = 40 << 20
	return max(maxMemory-process, maxMemory/4)
}

// store opens the log.
func (c *config) store() (store.Store, error) {
	p := presets[c.profile]
	if c.maxMemory == 0 {
		c.maxMemory = p.maxMemory
	}
	switch {
	case c.disk.Dir != "" && c.nats.URL != "":
		return nil, errors.New("data-dir and nats exclude each other: with nats, the messages are kept by the NATS servers")
	case c.disk.Dir == "" && (c.disk.MaxDisk != 0 || c.disk.Fsync != FsyncAlways):
		return nil, errors.New("max-disk and fsync have no effect without data-dir")
	case c.nats.URL != "":
		c.hub.Stores = []store.Kind{StoreDisk}
	case c.disk.Dir != "":
		c.hub.Stores = append(c.hub.Stores, StoreDisk)
	}
	for _, fp := range c.policies {
		if k := fp.policy.Store; k != "" && !slices.Contains(c.hub.Stores, k) {
			return nil, fmt.Errorf("the policy of %s: store %q is not available: store disk needs data-dir or nats, and store memory excludes nats", fp.filter, k)
		}
	}
	log, err := c.openStore(StoreOptions{history(c.maxMemory), c.maxGroups, c.server.Or(p.policy)})
	if err != nil {
		return nil, err
	}
	for _, fp := range c.policies {
		if err := store.SetAtStart(log, fp.filter, fp.policy); err != nil {
			return nil, errors.Join(err, log.Close())
		}
	}
	return log, nil
}

func (c *config) openStore(so StoreOptions) (store.Store, error) {
	switch {
	case c.open != nil:
		return c.open(so)
	case c.nats.URL != "":
		return c.openNATS(so)
	case c.disk.Dir != "":
		return c.openDisk(so)
	}
	return memory.New(memory.Options{MaxMemory: so.MaxMemory, MaxGroups: so.MaxGroups, Server: so.Server}), nil
}

func (c *config) openNATS(so StoreOptions) (store.Store, error) {
	o := c.nats
	o.MaxMemory, o.MaxGroups, o.Server, o.Logger, o.MaxMessage = so.MaxMemory, so.MaxGroups, so.Server, c.hub.Logger, c.hub.MaxMessage
	log, err := jetstream.Open(context.Background(), o)
	if err != nil {
		return nil, fmt.Errorf("nats: %w", err)
	}
	return log, nil
}

func (c *config) openDisk(so StoreOptions) (store.Store, error) {
	o := c.disk
	o.MaxMemory, o.MaxGroups, o.Server = so.MaxMemory, so.MaxGroups, so.Server
	log, err := tiered.Open(o)
	if err != nil {
		return nil, err
	}
	return log, nil
}
