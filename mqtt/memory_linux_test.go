package mqtt

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// BenchmarkHalfConnects opens 10,000 connections that send half of a CONNECT, and reports what they cost the server's
// process in memory.
func BenchmarkHalfConnects(b *testing.B) {
	benchmarkConnections(b, func(c net.Conn) error {
		_, err := c.Write([]byte("\x10\x0d\x00\x04MQ"))
		return err
	})
}

// BenchmarkIdleConnections opens 10,000 connections of clients that subscribe to one group and are idle then.
func BenchmarkIdleConnections(b *testing.B) {
	n := 0
	benchmarkConnections(b, func(c net.Conn) error {
		n++
		id := fmt.Sprintf("%06d", n)
		_, err := c.Write([]byte("\x10\x12\x00\x04MQTT\x04\x02\x00\x3c\x00\x06" + id + "\x82\x0b\x00\x01\x00\x06" + id + "\x00"))
		if err == nil {
			var answer [9]byte
			_, err = c.Read(answer[:])
		}
		return err
	})
}

const benchmarkedConnections = 10_000

func benchmarkConnections(b *testing.B, begin func(net.Conn) error) {
	for range b.N {
		server := startChild(b, "memory")
		dial := func() net.Conn {
			c, err := net.Dial("tcp", server.addr)
			if err == nil {
				err = begin(c)
			}
			if err != nil {
				b.Fatal(err)
			}
			return c
		}
		var conns []net.Conn
		for range 100 { // what the first connections cost once
			conns = append(conns, dial())
		}
		before := server.memory(b)
		for range benchmarkedConnections {
			conns = append(conns, dial())
		}
		grown := server.memory(b) - before
		b.ReportMetric(float64(grown)/(1<<20), "MiB")
		b.ReportMetric(float64(grown)/benchmarkedConnections, "bytes/conn")
		for _, c := range conns {
			_ = c.Close()
		}
		server.kill()
	}
}

// memory returns how many bytes of memory the process uses.
func (c *child) memory(b *testing.B) int64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rss, _ := strings.Cut(string(text), "VmRSS:")
	var kib int64
	if _, err := fmt.Sscan(rss, &kib); err != nil {
		b.Fatal(err)
	}
	return kib << 10
}
