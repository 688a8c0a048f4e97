package hub

import "github.com/watchbox-go/watchbox/internal/latency"

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
	counter("published_bytes_total", "Bytes of the messages published, as they are stored.", func(s *Stats) uint64 { return s.PublishedBytes }),
	counter("mqtt_messages_published_total", "Those of them that MQTT clients published, except messages that turned out to be stored later.", func(s *Stats) uint64 { return s.MQTT.Published }),
	counter("mqtt_messages_refused_total", "Messages of MQTT clients that were refused.", func(s *Stats) uint64 { return s.MQTT.Refused }),
	counter("mqtt_messages_dropped_total", "Those of them whose senders were not told.", func(s *Stats) uint64 { return s.MQTT.Dropped }),
	counter("mqtt_takeovers_total", "MQTT clients that were disconnected by another one with the same client id.", func(s *Stats) uint64 { return s.MQTT.Takeovers }),
	counter("messages_delivered_total", "Messages written to streams.", func(s *Stats) uint64 { return s.Delivery.Messages }),
	counter("delivered_bytes_total", "Bytes written to streams.", func(s *Stats) uint64 { return s.Delivery.Bytes }),
	counter("writes_total", "Writes to streams: one may carry many messages.", func(s *Stats) uint64 { return s.Delivery.Writes }),
	counter("slow_total", "Writes that a stream's socket accepted only in part.", func(s *Stats) uint64 { return s.Delivery.ShortWrites }),
	counter("held_total", "Times that a publisher had to wait for delivery.", func(s *Stats) uint64 { return s.Delivery.Held }),
	counter("gaps_total", "Gap events written to streams.", func(s *Stats) uint64 { return s.Delivery.Gaps }),
	counter("mqtt_messages_sent_total", "Messages sent to MQTT clients.", func(s *Stats) uint64 { return s.MQTT.Sent }),
	counter("mqtt_messages_sent_qos1_total", "Those of them with QoS 1.", func(s *Stats) uint64 { return s.MQTT.Sent1 }),
	counter("mqtt_messages_sent_qos2_total", "Those of them with QoS 2.", func(s *Stats) uint64 { return s.MQTT.Sent2 }),
	counter("mqtt_gaps_total", "Gaps that MQTT clients are told of.", func(s *Stats) uint64 { return s.MQTT.Gaps }),
	counter("streams_opened_total", "Streams opened.", func(s *Stats) uint64 { return s.Opened }),
	counter("streams_closed_total", "Streams that have ended.", func(s *Stats) uint64 { return s.ended() }),
	counter("messages_evicted_total", "Messages evicted: they are no longer held.", func(s *Stats) uint64 { return s.Store.Evicted }),
	counter("callbacks_dropped_total", "Events dropped because the embedding program was too slow.", func(s *Stats) uint64 { return s.Dropped }),
	counter("requests_busy_total", "Requests refused because others held too much memory.", func(s *Stats) uint64 { return s.Busy }),
	gauge("streams", "Open streams.", func(s *Stats) int64 { return s.Streams }),
	gauge("mqtt_connections", "Connected MQTT clients.", func(s *Stats) int64 { return s.MQTT.Connections }),
	gauge("sessions", "Sessions that are connected, or lost and not gone yet.", func(s *Stats) int64 { return s.Sessions }),
	gauge("positions", "Positions of readers that are kept while these are away, such as sessions of MQTT clients.", func(s *Stats) int64 { return s.Positions }),
	gauge("position_bytes", "Bytes of memory that positions take.", func(s *Stats) int64 { return s.PositionBytes }),
	gauge("publishers_held", "Publishers that wait for delivery now.", func(s *Stats) int64 { return s.Delivery.Holding }),
	gauge("streams_full", "Streams that wait for their sockets to accept more.", func(s *Stats) int64 { return s.Delivery.Full }),
	gauge("request_bytes", "Bytes of memory that requests in progress hold: bodies of more than 8 KiB, and their encoded messages.", func(s *Stats) int64 { return s.Requests }),
	gauge("will_bytes", "Bytes of last wills.", func(s *Stats) int64 { return s.Wills }),
	gauge("idempotency_keys", "Idempotency keys whose responses are kept.", func(s *Stats) int64 { return s.Keys }),
	gauge("callback_bytes", "Bytes of the messages that wait for callbacks of the embedding program or are handled by them.", func(s *Stats) int64 { return s.Waiting }),
	gauge("unsent_bytes", "Bytes of memory for messages that sockets accepted only in part.", func(s *Stats) int64 { return s.Delivery.Unsent }),
	gauge("groups", "Groups known.", func(s *Stats) int64 { return s.Store.Groups }),
	gauge("messages_held", "Messages held.", func(s *Stats) int64 { return s.Store.Messages }),
	gauge("held_bytes", "Bytes of the messages held.", func(s *Stats) int64 { return s.Store.Bytes }),
	gauge("history_memory_bytes", "Bytes of memory used for history.", func(s *Stats) int64 { return s.Store.Memory }),
	gauge("disk_bytes", "Bytes used in the data directory.", func(s *Stats) int64 { return s.Store.Disk }),
}

// Latency is a histogram of durations.
type Latency struct {
	Name string // as in /metrics
	Help string
	of   func(*Stats) *latency.Counts
}

// Counts returns the histogram's counts.
func (l *Latency) Counts(s *Stats) *latency.Counts { return l.of(s) }

// Latencies lists all histograms of a hub.
var Latencies = []Latency{
	{"watchbox_publish_seconds", "Time from the body of a POST until its answer. A busy hub measures one of 8.", func(s *Stats) *latency.Counts { return s.PublishLatency }},
	{"watchbox_delivery_seconds", "Time from the append of a message until it was written to a socket. A busy hub measures one of 16 writes.", func(s *Stats) *latency.Counts { return s.DeliveryLatency }},
}
