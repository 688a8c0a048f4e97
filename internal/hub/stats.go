package hub

import (
	"encoding/json"
	"maps"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/latency"
	"github.com/watchbox-go/watchbox/store"
)

// Stats are counters since the start, and current values.
type Stats struct {
	Sessions       int64
	Requests       int64  // bytes of memory that requests in progress hold
	Busy           uint64 // requests refused because others held too much memory
	Wills          int64  // bytes of last wills
	Positions      int64  // of readers that outlive their connections
	PositionBytes  int64
	Keys           int64  // idempotency keys whose responses are kept
	Dropped        uint64 // events that the embedding program was too slow to accept
	Waiting        int64  // bytes of the messages that the embedding program has not handled yet
	Published      uint64
	PublishedBytes uint64
	MQTT           struct { // parts of the figures above and below
		Connections                 int64
		Published, Refused, Dropped uint64
		Sent, Sent1, Sent2          uint64
		Takeovers, Gaps             uint64
	}
	Opened   uint64
	Ended    map[string]uint64 // streams that have ended, by reason
	Streams  int64
	Delivery delivery.Stats
	Store    store.Usage

	PublishLatency, DeliveryLatency *latency.Counts
}

func (s *Stats) ended() (n uint64) {
	for _, c := range s.Ended {
		n += c
	}
	return n
}

// Stats returns the current statistics.
func (h *Hub) Stats() Stats {
	s := Stats{
		Published: h.posts.Load(), PublishedBytes: h.postBytes.Load(), Opened: h.opened.Load(), Ended: h.ended.counts(), Streams: h.streams.Load(),
		Sessions: int64(h.sessions.Len()), Keys: int64(h.keys.size()),
		Requests: h.budget.held(), Busy: h.overloaded.Load(), Wills: h.wills.Load(), Delivery: h.set.Stats(), Store: h.log.Usage(),
		PublishLatency: h.publishing.Counts(), DeliveryLatency: h.set.Latency(),
	}
	positions, bytes := h.cursors.Usage()
	s.Positions, s.PositionBytes = int64(positions), bytes
	s.MQTT.Connections, s.MQTT.Takeovers, s.MQTT.Gaps = h.mqtt.Connections.Load(), h.mqtt.Takeovers.Load(), h.mqtt.Gaps.Load()
	s.MQTT.Published, s.MQTT.Refused, s.MQTT.Dropped = h.mqtt.Published.Load(), h.mqtt.Refused.Load(), h.mqtt.Dropped.Load()
	s.MQTT.Sent = s.Delivery.Coded + h.mqtt.Lent.Load()
	s.MQTT.Sent1, s.MQTT.Sent2 = h.mqtt.Sent1.Load(), h.mqtt.Sent2.Load()
	if h.opts.Observer != nil {
		s.Dropped, s.Waiting = h.opts.Observer.Dropped(), h.opts.Observer.Waiting()
	}
	return s
}

// ClientCounts are counted by the server of another protocol.
type ClientCounts struct {
	Connections        atomic.Int64  // of clients that were admitted
	Published, Refused atomic.Uint64 // messages
	Dropped            atomic.Uint64 // messages that were refused without telling the client
	Lent               atomic.Uint64 // messages sent to members of shares, which have no stream for them
	Sent1, Sent2       atomic.Uint64 // messages sent with QoS 1 and 2
	Takeovers, Gaps    atomic.Uint64
}

// MQTT returns the counters of MQTT clients.
func (h *Hub) MQTT() *ClientCounts { return &h.mqtt }

// reasons counts streams that have ended, by reason.
type reasons struct {
	mu sync.Mutex
	n  map[string]uint64
}

func (r *reasons) add(why delivery.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == nil {
		r.n = map[string]uint64{}
	}
	r.n[string(why)]++
}

func (r *reasons) counts() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := map[string]uint64{}
	maps.Copy(n, r.n)
	return n
}

// publishing measures how long POSTs take. Reading the clock costs more than counting, so a busy hub measures one of 8.
type publishing struct {
	latency.Histogram
	count, mask atomic.Uint32
}

// busyPublishing selects the POSTs that are measured while there are many.
const busyPublishing = 7

// PublishBegun is called when the body of a POST has been read. PublishEnded is called with its result after the
// answer, unless the POST was refused.
func (h *Hub) PublishBegun() time.Time {
	if h.publishing.count.Add(1)&h.publishing.mask.Load() != 0 {
		return time.Time{}
	}
	return time.Now()
}

// PublishEnded is described at PublishBegun.
func (h *Hub) PublishEnded(begun time.Time) {
	if !begun.IsZero() {
		h.publishing.Observe(time.Since(begun))
	}
}

// statsMessage is a message of $sys/stats. The figures of Metrics that are not 0 follow its members.
// docs/OPERATING.md describes it.
type statsMessage struct {
	Version  string            `json:"version"`
	Uptime   float64           `json:"uptime"` // seconds
	Ready    bool              `json:"ready"`
	Why      string            `json:"why,omitempty"` // it is not ready
	Hubs     int               `json:"hubs"`
	Interval float64           `json:"interval"` // seconds that the rates and latencies cover
	Rates    statsRates        `json:"rates"`    // a second
	Latency  statsLatencies    `json:"latency"`
	Now      statsNow          `json:"now"`
	Memory   statsBound        `json:"memory"`
	Disk     *statsBound       `json:"disk,omitempty"`
	Closed   map[string]uint64 `json:"closed"` // streams since the start, by reason
}

type statsRates struct {
	In       float64 `json:"in"`
	InBytes  float64 `json:"in_bytes"`
	Out      float64 `json:"out"`
	OutBytes float64 `json:"out_bytes"`
	Held     float64 `json:"held"`
	Slow     float64 `json:"slow"`
	Evicted  float64 `json:"evicted"`
	Gaps     float64 `json:"gaps"`
	Opened   float64 `json:"opened"`
	Closed   float64 `json:"closed"`
}

type statsLatencies struct {
	Publish  statsLatency `json:"publish"`
	Delivery statsLatency `json:"delivery"`
}

type statsLatency struct {
	Count uint64   `json:"count"`
	P50   *float64 `json:"p50,omitempty"` // ms
	P99   *float64 `json:"p99,omitempty"`
}

type statsNow struct {
	Held int64 `json:"held"`
	Slow int64 `json:"slow"`
}

type statsBound struct {
	Used int64 `json:"used"`
	Max  int64 `json:"max,omitempty"`
}

// statsJSON returns the message for the time between two statistics.
func (h *Hub) statsJSON(before, now *Stats, took time.Duration) []byte {
	m := statsMessage{
		Version: h.opts.Version, Uptime: round(time.Since(h.began).Seconds()), Ready: true, Hubs: 1, Interval: round(took.Seconds()),
		Rates:   statsRatesOf(before, now, took),
		Latency: statsLatencies{statsLatencyOf(before.PublishLatency, now.PublishLatency), statsLatencyOf(before.DeliveryLatency, now.DeliveryLatency)},
		Now:     statsNow{now.Delivery.Holding, now.Delivery.Full},
		Memory:  statsBound{now.Store.Memory, now.Store.MaxMemory},
		Closed:  now.Ended,
	}
	if err := h.Ready(); err != nil {
		m.Ready, m.Why = false, err.Error()
	}
	if h.notes != nil {
		m.Disk = &statsBound{now.Store.Disk, now.Store.MaxDisk}
	}
	if s, ok := h.log.(store.Shared); ok {
		m.Hubs, m.Disk = len(s.Hubs().List()), nil
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic("hub: stats: " + err.Error()) // impossible: numbers and strings
	}
	b = b[:len(b)-1]
	for i := range Metrics {
		if v := Metrics[i].Value(now); v != 0 {
			b = append(store.AppendQuote(append(b, ','), Metrics[i].Name), ':')
			b = strconv.AppendFloat(b, v, 'f', -1, 64)
		}
	}
	return append(b, '}')
}

func statsRatesOf(before, now *Stats, took time.Duration) statsRates {
	rate := func(count func(*Stats) uint64) float64 {
		return round(float64(count(now)-count(before)) / took.Seconds())
	}
	return statsRates{
		In:       rate(func(s *Stats) uint64 { return s.Published }),
		InBytes:  rate(func(s *Stats) uint64 { return s.PublishedBytes }),
		Out:      rate(func(s *Stats) uint64 { return s.Delivery.Messages }),
		OutBytes: rate(func(s *Stats) uint64 { return s.Delivery.Bytes }),
		Held:     rate(func(s *Stats) uint64 { return s.Delivery.Held }),
		Slow:     rate(func(s *Stats) uint64 { return s.Delivery.ShortWrites }),
		Evicted:  rate(func(s *Stats) uint64 { return s.Store.Evicted }),
		Gaps:     rate(func(s *Stats) uint64 { return s.Delivery.Gaps }),
		Opened:   rate(func(s *Stats) uint64 { return s.Opened }),
		Closed:   rate((*Stats).ended),
	}
}

func statsLatencyOf(before, now *latency.Counts) statsLatency {
	c := now.Since(before)
	out := statsLatency{Count: c.Total()}
	if out.Count > 0 {
		p50, p99 := ms(c.Quantile(0.5)), ms(c.Quantile(0.99))
		out.P50, out.P99 = &p50, &p99
	}
	return out
}

func ms(d time.Duration) float64 { return round(float64(d) / float64(time.Millisecond)) }

// round rounds to three significant digits, or to a whole number above 1000.
func round(x float64) float64 {
	if x >= 1000 {
		return math.Round(x)
	}
	r, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 3, 64), 64)
	if err != nil {
		panic("hub: stats: " + err.Error()) // impossible: it was formatted
	}
	return r
}

// The interval of $sys/stats, and what is kept of it: an hour, in less than 1 MiB of memory.
const (
	statsInterval = 5 * time.Second
	statsAge      = time.Hour
	statsMessages = int64(statsAge / statsInterval)
	statsBytes    = 960 << 10 // about 1,350 bytes for each message; 900 are usual
)

// busyRate is the number of POSTs or writes a second above which only some of them are measured.
const busyRate = 1000

// ticker appends the statistics to $sys/stats. They are kept for an hour, for charts.
type ticker struct {
	stop  chan struct{}
	once  sync.Once // closes stop
	ended sync.WaitGroup
}

func newTicker() *ticker { return &ticker{stop: make(chan struct{})} }

// start starts the goroutine, which ends with close.
func (t *ticker) start(h *Hub) {
	first, at := h.Stats(), time.Now()
	t.ended.Go(func() { t.run(h, first, at) })
}

func (t *ticker) run(h *Hub, before Stats, last time.Time) {
	tick := time.NewTicker(statsInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-t.stop:
			return
		}
		now, at := h.Stats(), time.Now()
		h.measureLess(&before, &now, at.Sub(last))
		m := store.Message{Group: h.statsGroup(), Msg: h.statsJSON(&before, &now, at.Sub(last))}
		h.logLost(m, h.appendOwn(m))
		before, last = now, at
	}
}

// statsGroup returns the group of the hub's statistics. Hubs that share a log have one each.
func (h *Hub) statsGroup() string {
	if h.cluster == nil {
		return statsGroup
	}
	return statsGroup + "/" + h.ID()
}

// measureLess measures only some of the POSTs and writes while there are many.
func (h *Hub) measureLess(before, now *Stats, took time.Duration) {
	many := func(n uint64) bool { return float64(n) > busyRate*took.Seconds() }
	mask := uint32(0)
	if many(now.Published - before.Published) {
		mask = busyPublishing
	}
	h.publishing.mask.Store(mask)
	h.set.Busy(many(now.Delivery.Writes - before.Delivery.Writes))
}

// close stops the goroutine and waits for it.
func (t *ticker) close() {
	t.once.Do(func() { close(t.stop) })
	t.ended.Wait()
}
