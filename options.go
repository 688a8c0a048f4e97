package watchbox

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/api"
	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/duration"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/listen"
	"github.com/watchbox-go/watchbox/mqtt"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
	"github.com/watchbox-go/watchbox/store/jetstream"
)

// Option sets one property of a hub. Its name is the same as that of the flag of watchbox serve.
type Option func(*config) error

// config has the values that options set.
type config struct {
	hub       hub.Options
	maxMemory int64
	maxGroups int
	disk      disk.Options
	nats      jetstream.Options                       // URL is "": the log is not shared
	open      func(StoreOptions) (store.Store, error) // nil: a store of the hub's own
	profile   Profile
	server    Policy
	policies  []filterPolicy
	guard     api.Guard
	ignore    []string
	anyone    bool
	listen    listen.Options
	listening func(net.Addr)

	mqtt                mqtt.Options
	mqttAddr, mqttsAddr string // "" for none

	drainDelay, idleTimeout time.Duration
	noDashboard             bool

	access      access.Options
	anonymous   bool // callers without a token have a grant
	authorize   func(*http.Request) (*Grant, error)
	openMetrics bool
	trusted     []netip.Prefix
}

// apply applies the options in order.
func (c *config) apply(opts []Option) error {
	for i, o := range opts {
		if o == nil {
			return fmt.Errorf("option %d of New is nil", i+1)
		}
		if err := o(c); err != nil {
			return err
		}
	}
	return errors.Join(c.checkOrigins(), c.checkAccess(), c.checkListen(), c.checkMQTT())
}

type filterPolicy struct {
	filter group.Filter
	policy Policy
}

// Policy describes which messages a group keeps, and for how long. A zero field is inherited from the policy of the next
// wider filter, and finally from the server's. Unbounded removes an inherited bound.
type Policy = store.Policy

// Values of the fields of a Policy.
const (
	Unbounded = store.Unbounded

	StoreMemory = store.Memory
	StoreDisk   = store.Disk

	Yes = store.Yes
	No  = store.No

	SlowCatchUp    = store.SlowCatchUp
	SlowSkip       = store.SlowSkip
	SlowDisconnect = store.SlowDisconnect
)

// Profile is a set of defaults. Options for single properties override it.
type Profile string

// The profiles.
const (
	ProfileMemory   Profile = "memory"   // least memory: compressed history in 48 MiB
	ProfileBalanced Profile = "balanced" // the default: 128 MiB
	ProfileSpeed    Profile = "speed"    // most history at full speed: 1 GiB
)

// preset holds the values of a profile.
type preset struct {
	maxMemory int64
	policy    Policy
}

var presets = map[Profile]preset{
	ProfileMemory:   {48 << 20, Policy{Compress: Yes, Coalesce: 100 * time.Millisecond}},
	ProfileBalanced: {128 << 20, Policy{}},
	ProfileSpeed:    {1 << 30, Policy{}},
}

// WithProfile chooses a set of defaults for memory and speed.
func WithProfile(p Profile) Option {
	return func(c *config) error {
		if _, ok := presets[p]; !ok {
			return fmt.Errorf("profile: %q is not memory, balanced or speed", p)
		}
		c.profile = p
		return nil
	}
}

// WithMaxMemory limits the memory for all history together, in bytes. 40 MiB of it are for the process itself.
// The minimum is 1 MiB. Below 48 MiB the process uses more than the limit.
func WithMaxMemory(bytes int64) Option {
	return func(c *config) error {
		if bytes < minMemory {
			return fmt.Errorf("max-memory: %d bytes are too few; the minimum is %d (1MiB)", bytes, minMemory)
		}
		c.maxMemory = bytes
		return nil
	}
}

const minMemory = 1 << 20

// WithMaxMessages limits the number of messages that a group keeps, unless a policy overrides it; 0: no limit.
func WithMaxMessages(n int64) Option {
	return func(c *config) error { return bound("max-messages", n, &c.server.MaxMessages) }
}

// WithMaxBytes limits the number of bytes that a group keeps, unless a policy overrides it; 0: no limit.
func WithMaxBytes(n int64) Option {
	return func(c *config) error { return bound("max-bytes", n, &c.server.MaxBytes) }
}

// WithMaxAge limits how long a group keeps a message, unless a policy overrides it; 0: no limit.
func WithMaxAge(d time.Duration) Option {
	return func(c *config) error {
		if err := store.Ages.Check(d); err != nil {
			return fmt.Errorf("max-age: %w; 0 means no limit", err)
		}
		return bound("max-age", d, &c.server.MaxAge)
	}
}

func bound[T int64 | time.Duration](name string, n T, to *T) error {
	if n < 0 {
		return fmt.Errorf("%s: %v is below 0; 0 means no limit", name, n)
	}
	if *to = n; n == 0 {
		*to = Unbounded
	}
	return nil
}

// WithPolicy sets the policy of a filter.
func WithPolicy(filter string, p Policy) Option {
	return func(c *config) error {
		f, err := group.ParseFilter(filter)
		if err != nil {
			return fmt.Errorf("policy: %w", err)
		}
		if err := p.Check(); err != nil {
			return fmt.Errorf("the policy of %s: %w", filter, err)
		}
		c.policies = append(c.policies, filterPolicy{f, p})
		return nil
	}
}

// WithMaxMessageSize limits the size of a message's body, in bytes.
func WithMaxMessageSize(bytes int) Option {
	return func(c *config) error {
		if bytes < 1 {
			return errors.New("max-message-size: a message has at least 1 byte")
		}
		c.hub.MaxMessage = bytes
		return nil
	}
}

// WithMaxRequestMemory limits the memory, in bytes, of all request bodies and of their encoded messages
// until they are stored. A request waits for memory that other requests hold, and is refused with 503
// after 10 seconds. The default is 64 MiB, the minimum 1 MiB. It is in addition to WithMaxMemory.
func WithMaxRequestMemory(bytes int64) Option {
	return func(c *config) error {
		if bytes < minMemory {
			return fmt.Errorf("max-request-memory: %d bytes are too few; the minimum is %d (1MiB)", bytes, minMemory)
		}
		c.hub.MaxRequests = bytes
		return nil
	}
}

// WithBodyTimeout sets how long the body of a request may pause before the request is refused with
// 408. A body of more than 8 KiB must also send each 64 KiB within that time.
func WithBodyTimeout(d time.Duration) Option {
	return within("body-timeout", d, duration.Range{Least: 100 * time.Millisecond, Most: time.Hour}, func(c *config) *time.Duration { return &c.hub.BodyTimeout })
}

// WithMaxGroups limits the number of groups.
func WithMaxGroups(n int) Option {
	return atLeastOne("max-groups", n, func(c *config) *int { return &c.maxGroups })
}

// WithMaxStreams limits the number of open streams; 0: no limit.
func WithMaxStreams(n int) Option {
	return func(c *config) error {
		if n < 0 {
			return errors.New("max-streams: below 0; 0 means no limit")
		}
		c.hub.MaxStreams = n
		return nil
	}
}

// WithMaxFilters limits the number of filters of one stream.
func WithMaxFilters(n int) Option {
	return atLeastOne("max-filters", n, func(c *config) *int { return &c.hub.MaxFilters })
}

// WithMaxUnsent limits the memory, in bytes, for partly sent messages: the rest of a message is kept until the
// client reads on. Streams with the same partly sent message share one copy. If the memory is used up, a stream
// is ended with the reason "slow", and its client resumes by id. Up to
// 4 KiB per stream are always kept.
func WithMaxUnsent(bytes int64) Option {
	return func(c *config) error {
		if bytes < 1 {
			return fmt.Errorf("max-unsent: %d is below 1", bytes)
		}
		c.hub.MaxUnsent = bytes
		return nil
	}
}

// within sets a duration that has limits.
func within(name string, d time.Duration, limits duration.Range, to func(*config) *time.Duration) Option {
	return func(c *config) error {
		if err := limits.Check(d); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*to(c) = d
		return nil
	}
}

func atLeastOne(name string, n int, to func(*config) *int) Option {
	return func(c *config) error {
		if n < 1 {
			return fmt.Errorf("%s: %d is below 1", name, n)
		}
		*to(c) = n
		return nil
	}
}

// WithRetry sets the reconnect delay sent to clients: how long a client waits before it reconnects (the
// retry field, WHATWG HTML 9.2.5).
func WithRetry(d time.Duration) Option {
	return within("retry", d, duration.Range{Least: time.Millisecond, Most: time.Hour}, func(c *config) *time.Duration { return &c.hub.Retry })
}

// WithHeartbeat sets the interval of heartbeats on a stream without messages, unless its client requests
// another one.
func WithHeartbeat(d time.Duration) Option {
	return within("heartbeat", d, hub.Heartbeats, func(c *config) *time.Duration { return &c.hub.Heartbeat })
}

// WithSessionTimeout sets how long a disconnected session may take to reconnect before it is gone.
func WithSessionTimeout(d time.Duration) Option {
	return within("session-timeout", d, duration.Range{Least: 100 * time.Millisecond, Most: 24 * time.Hour}, func(c *config) *time.Duration { return &c.hub.SessionTimeout })
}

// WithLogger sets the hub's logger. Without it, the hub logs nothing.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return errors.New("logger: it is nil; omit the option to log nothing")
		}
		c.hub.Logger = l
		return nil
	}
}

// WithLogStreams logs a line at level info when a stream opens and when it closes. Without it, these
// lines have level debug.
func WithLogStreams() Option {
	return func(c *config) error { c.hub.LogStreams = true; return nil }
}

// WithAllowHost names hosts that the hub answers to: hub.example.org, or *.example.org for every name
// below example.org (not for example.org itself). With this option, requests to other hosts
// are refused, except to localhost, to IP addresses, and for /healthz, /readyz and /metrics. A hub that Run
// serves alone always refuses them.
func WithAllowHost(names ...string) Option {
	return func(c *config) error {
		for _, n := range names {
			p, err := api.ParseHost(n)
			if err != nil {
				return fmt.Errorf("allow-host: %w", err)
			}
			c.guard.Hosts = append(c.guard.Hosts, p)
		}
		c.guard.CheckHost = true
		return nil
	}
}

// WithAllowOrigin names origins whose pages may use the hub, besides those of its own host:
// https://example.org; https://*.example.org for every name below example.org (not for example.org
// itself); http://localhost:* for every port. "*" alone lets every page, of any site that a user opens,
// read and send everything that the user's browser can reach.
func WithAllowOrigin(origins ...string) Option {
	return func(c *config) error {
		for _, o := range origins {
			p, err := api.ParseOrigin(o)
			if err != nil {
				return fmt.Errorf("allow-origin: %w", err)
			}
			c.guard.Origins = append(c.guard.Origins, p)
		}
		return nil
	}
}

// WithAllowCredentials lets pages of the origins of WithAllowOrigin send cookies and other
// credentials of the browser. It excludes the origins "*" and https://*, with which any site could act in the name
// of its visitors.
func WithAllowCredentials() Option {
	return func(c *config) error { c.guard.Credentials = true; return nil }
}

// WithIgnoreParam names query parameters that the hub ignores, because the program or a proxy around it
// uses them: ticket, or utm_* for all that begin with utm_. Any other unknown parameter is an error.
// Parameters that the hub knows are never ignored.
func WithIgnoreParam(names ...string) Option {
	return func(c *config) error {
		for _, n := range names {
			if n == "" || strings.Contains(strings.TrimSuffix(n, "*"), "*") {
				return fmt.Errorf("ignore-param: %q is not a name such as token or utm_*", n)
			}
		}
		c.ignore = append(c.ignore, names...)
		return nil
	}
}

// checkOrigins returns an error if credentials are allowed for no origin or for every origin.
func (c *config) checkOrigins() error {
	if !c.guard.Credentials {
		return nil
	}
	if len(c.guard.Origins) == 0 {
		return errors.New("allow-credentials: name the origins with allow-origin")
	}
	if slices.ContainsFunc(c.guard.Origins, api.OriginPattern.MatchesAll) {
		return errors.New("allow-credentials: an origin of allow-origin matches every site, which could act in the name of its visitors; name the origins")
	}
	return nil
}

// WithOpenToAnyone lets Run serve on an address that other machines can reach. Everyone who can reach it
// may read, send and administer everything.
func WithOpenToAnyone() Option {
	return func(c *config) error { c.anyone = true; return nil }
}

// WithListening calls f with the address when Run accepts connections.
func WithListening(f func(net.Addr)) Option {
	return func(c *config) error {
		if f == nil {
			return errors.New("listening: the function is nil")
		}
		c.listening = f
		return nil
	}
}

// WithDrainDelay makes Run serve for another d after its context has ended, while /readyz answers 503.
// Load balancers use that time to redirect new requests. Then streams are ended.
func WithDrainDelay(d time.Duration) Option {
	return within("drain-delay", d, duration.Range{Most: time.Hour}, func(c *config) *time.Duration { return &c.drainDelay })
}

// WithIdleTimeout sets how long Run keeps a connection without requests open. It should be longer than the idle
// timeout of a load balancer in front of the hub. Otherwise the hub may close a connection just as the load
// balancer sends a request on it.
func WithIdleTimeout(d time.Duration) Option {
	return within("idle-timeout", d, duration.Range{Least: time.Second, Most: 24 * time.Hour}, func(c *config) *time.Duration { return &c.idleTimeout })
}
