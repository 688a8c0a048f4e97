package hub

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// Metric is one figure about the hub.
type Metric struct {
	Name    string // as in /metrics and in $sys/stats
	Help    string
	Counter bool // a counter, which only rises; else a gauge
	value   func(*Stats) float64
}

// Value returns the metric's figure.
func (m *Metric) Value(s *Stats) float64 { return m.value(s) }

func counter(name, help string, value func(*Stats) uint64) Metric {
	return Metric{"watchbox_" + name, help, true, func(s *Stats) float64 { return float64(value(s)) }}
}

func gauge(name, help string, value func(*Stats) int64) Metric {
	return Metric{"watchbox_" + name, help, false, func(s *Stats) float64 { return float64(value(s)) }}
}

// Metrics lists all metrics of a hub.
var Metrics = []Metric{
	counter("messages_published_total", "Messages appended to the log by clients and the program.", func(s *Stats) uint64 { return s.Published }),
	counter("messages_delivered_total", "Messages written to streams.", func(s *Stats) uint64 { return s.Delivery.Messages }),
	counter("delivered_bytes_total", "Bytes written to streams.", func(s *Stats) uint64 { return s.Delivery.Bytes }),
	counter("writes_total", "Writes to streams: one may carry many messages.", func(s *Stats) uint64 { return s.Delivery.Writes }),
	counter("slow_total", "Writes that a stream's socket accepted only in part.", func(s *Stats) uint64 { return s.Delivery.ShortWrites }),
	counter("held_total", "Times that a publisher had to wait for delivery.", func(s *Stats) uint64 { return s.Delivery.Held }),
	counter("streams_opened_total", "Streams opened.", func(s *Stats) uint64 { return s.Opened }),
	counter("messages_evicted_total", "Messages evicted: they are no longer held.", func(s *Stats) uint64 { return s.Store.Evicted }),
	counter("callbacks_dropped_total", "Events dropped because the embedding program was too slow.", func(s *Stats) uint64 { return s.Dropped }),
	counter("requests_busy_total", "Requests refused because others held too much memory.", func(s *Stats) uint64 { return s.Busy }),
	gauge("streams", "Open streams.", func(s *Stats) int64 { return s.Streams }),
	gauge("sessions", "Sessions that are connected, or lost and not gone yet.", func(s *Stats) int64 { return s.Sessions }),
	gauge("request_bytes", "Bytes of memory that requests in progress hold: bodies of more than 8 KiB, and their encoded messages.", func(s *Stats) int64 { return s.Requests }),
	gauge("will_bytes", "Bytes of last wills.", func(s *Stats) int64 { return s.Wills }),
	gauge("idempotency_keys", "Idempotency keys whose responses are kept.", func(s *Stats) int64 { return s.Keys }),
	gauge("callback_bytes", "Bytes of the messages that wait for callbacks of the embedding program or are handled by them.", func(s *Stats) int64 { return s.Waiting }),
	gauge("unsent_bytes", "Bytes of memory for messages that sockets accepted only in part.", func(s *Stats) int64 { return s.Delivery.Unsent }),
	gauge("groups", "Groups known.", func(s *Stats) int64 { return s.Store.Groups }),
	gauge("messages_held", "Messages held.", func(s *Stats) int64 { return s.Store.Messages }),
	gauge("held_bytes", "Bytes of the messages held.", func(s *Stats) int64 { return s.Store.Bytes }),
	gauge("history_memory_bytes", "Bytes of memory used for history.", func(s *Stats) int64 { return s.Store.Memory }),
}

// ticker appends the metrics to $sys/stats once a second while a stream listens to that group.
type ticker struct {
	mu      sync.Mutex // guards what follows
	running bool
	stop    chan struct{}
	ended   sync.WaitGroup
}

// start starts the ticker, unless it runs.
func (t *ticker) start(h *Hub) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running || h.closing.Load() {
		return
	}
	t.running, t.stop = true, make(chan struct{})
	t.ended.Go(func() { t.run(h, t.stop) })
}

func (t *ticker) run(h *Hub, stop chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		if !t.wanted(h) {
			return
		}
		m := store.Message{Group: statsGroup, Msg: h.statsJSON()}
		h.logLost(m, h.appendOwn(m))
	}
}

// wanted reports whether a stream still listens. If none does, it marks the ticker as not running.
func (t *ticker) wanted(h *Hub) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = t.running && h.sessions.Listens(matchesStats)
	return t.running
}

func matchesStats(f group.Filter) bool { return f.Match(statsGroup) }

// close stops the ticker and waits for its goroutine.
func (t *ticker) close() {
	t.mu.Lock()
	if t.running {
		close(t.stop)
		t.running = false
	}
	t.mu.Unlock()
	t.ended.Wait()
}

func (h *Hub) statsJSON() []byte {
	s := h.Stats()
	figures := map[string]float64{}
	for i := range Metrics {
		figures[Metrics[i].Name] = Metrics[i].Value(&s)
	}
	b, err := json.Marshal(figures)
	if err != nil {
		panic("hub: stats: " + err.Error()) // impossible: a map of strings to numbers
	}
	return b
}
