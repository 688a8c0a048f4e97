package jetstream

import (
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// Defaults of Options.
const (
	DefaultStream   = "WATCHBOX"
	DefaultReplicas = 3
	DefaultMaxMarks = 20_000
)

// Options describe a log, and this hub. Zero values mean the defaults.
type Options struct {
	URL      string // of the NATS servers, separated by commas
	Creds    string // file with the credentials of the NATS account; "": none
	Stream   string
	Replicas int // of a stream that is created

	MaxMessage int          // size of the largest message that the hub takes; a warning is logged if the servers take less
	MaxMemory  int64        // bytes of memory for messages, at least memory.MinMaxMemory
	MaxGroups  int          // most groups
	MaxMarks   int          // notes of evictions that are kept; without one, every reader from before the eviction gets a gap
	Server     store.Policy // the server's policy, which all others inherit. It must be the same for all hubs

	Name string // of this hub, for people; the default is the host's name

	Logger *slog.Logger // nil: no logs
	Dialer Dialer       // how to reach the servers; nil: by the network
	Times  Times
}

// Dialer opens connections to NATS servers.
type Dialer interface {
	Dial(network, address string) (net.Conn, error)
}

// Times are how long things take. Tests shorten them.
type Times struct {
	Patience time.Duration // how long an append waits for the servers; 5 s
	Beat     time.Duration // how often the servers give a sign of life; 1 s
	Sign     time.Duration // how often a hub gives a sign of life; 1 s
	Silent   time.Duration // how long a hub may be silent before the others give it up; store.SilentFor
	Janitor  time.Duration // how often evicted messages are looked for; 3 s
	Grace    time.Duration // how long an evicted message stays in the stream, for hubs that lag; 5 min
}

func (o Options) withDefaults() Options {
	fill(&o.Stream, DefaultStream)
	fill(&o.Replicas, DefaultReplicas)
	fill(&o.MaxMarks, DefaultMaxMarks)
	if o.Name == "" {
		o.Name, _ = os.Hostname() // only for people
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	t := &o.Times
	fill(&t.Patience, 5*time.Second)
	fill(&t.Beat, time.Second)
	fill(&t.Sign, time.Second)
	fill(&t.Silent, store.SilentFor)
	fill(&t.Janitor, 3*time.Second)
	fill(&t.Grace, 5*time.Minute)
	return o
}

func fill[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
