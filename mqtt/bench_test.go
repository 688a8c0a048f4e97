package mqtt

import (
	"testing"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// BenchmarkAppend measures how a message becomes a packet, and its acknowledgement.
func BenchmarkAppend(b *testing.B) {
	for _, bench := range []struct {
		name string
		qos  byte
		meta [][2]string
	}{{"QoS 0", 0, nil}, {"QoS 1", 1, nil}, {"QoS 1 with properties", 1, [][2]string{{"$type", "text/plain"}, {"a", "1"}}}} {
		b.Run(bench.name, func(b *testing.B) {
			f, _ := group.ParseFilter("home/+")
			s := &session{conn: &conn{version: 5}}
			s.window.size = maxWindow
			s.subs = []subscription{{topic: "home/+", filter: f, options: bench.qos}}
			m := store.Message{Group: "home/kitchen", Meta: bench.meta, Msg: []byte(`{"temperature":21.5,"humidity":40}`)}
			e := m.Entry(nil)
			bytes, at := e.AppendFrame(nil, store.ID{Epoch: "4k7q9x", Seq: 1})
			frame := store.Frame{Seq: 1, Group: m.Group, Flags: e.Flags(), Msg: at, Bytes: bytes}
			buf := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				frame.Seq++
				out, full := s.Append(buf[:0], &frame, delivery.Logged)
				if full || len(out) == 0 {
					b.Fatal("nothing was appended")
				}
				s.window.sent(frame.Seq, delivery.Logged)
				if len(s.window.list) > 0 {
					s.window.remove(0)
				}
			}
		})
	}
}
