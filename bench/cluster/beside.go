//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// figure is a metric of a hub with NATS beside the same metric of something else.
type figure struct {
	name, what string
	load       []string // of loadgen
	metric     string   // of loadgen's output
	beside     string   // what the reference is
	reach      string
	onDisk     bool // the servers sync each message to a disk, instead of a file system in memory
	measured   func(f *figure, dir string, s servers.Servers) (float64, error)
	reference  func(f *figure, dir string, s servers.Servers) (float64, error)
}

func figures(dur time.Duration) []figure {
	fanout := func(args ...string) []string { return append([]string{"fanout", "--dur", dur.String()}, args...) }
	publish := func(conns string) []string {
		return []string{"publish", "--dur", dur.String(), "--subs", "0", "--pub-conns", conns}
	}
	bare := func(n int) func(*figure, string, servers.Servers) (float64, error) {
		return func(f *figure, _ string, s servers.Servers) (float64, error) { return publishBare(s, n, dur, f.metric) }
	}
	const cpu, memory, nats = "server_cpu_us_per_delivery", "a hub with its log in memory", "nats.go alone"
	return []figure{
		{"N1", "S1, 1,000 listeners, 20 messages/s: CPU µs per delivery", fanout("--subs", "1000", "--rate", "20"), cpu, memory, "≤ 1.15", false, withNATS, inMemory},
		{"N3", "S3, 10,000 listeners, 2 messages/s: CPU µs per delivery", fanout("--subs", "10000", "--rate", "2", "--src-ips", "4"), cpu, memory, "≤ 1.15", false, withNATS, inMemory},
		{"N2c", "S2c, 1,000 listeners, 64 publishers: deliveries/s", fanout("--subs", "1000", "--rate", "max", "--pub-conns", "64"), "deliveries_per_s", memory, "≥ 0.5", false, withNATS, inMemory},
		{"post", "one publisher: p50 of a POST, ms", publish("1"), "post_p50_ms", nats, "≤ 1.5, ≤ 2 ms", true, withNATS, bare(1)},
		{"floor", "the same with a handler of net/http that only publishes", publish("1"), "post_p50_ms", nats, "", true, publishingHandler, bare(1)},
		{"posts", "64 publishers: POSTs/s", publish("64"), "posts_per_s", nats, "≥ 0.5", true, withNATS, bare(64)},
	}
}

// measure measures both sides in turn, as often as there are rounds, and prints the figure.
func (f *figure) measure(dir string, rounds int) error {
	var ours, theirs, ratios []float64
	for range rounds {
		on := ""
		if f.onDisk {
			on = dir
		}
		s, end, err := startServers(on, 1)
		if err != nil {
			return err
		}
		a, err := f.measured(f, dir, s)
		var b float64
		if err == nil {
			b, err = f.reference(f, dir, s)
		}
		end()
		if err != nil {
			return err
		}
		ours, theirs, ratios = append(ours, a), append(theirs, b), append(ratios, a/b)
	}
	fmt.Printf("| %s: %s | %.4g | %s %.4g | %.2f | %s | |\n", f.name, f.what, median(ours), f.beside, median(theirs), median(ratios), f.reach)
	return nil
}

// onHub runs the load on a hub with the given flags, and returns the metric.
func (f *figure) onHub(dir string, flags ...string) (float64, error) {
	h, err := startHub(dir, flags...)
	if err != nil {
		return 0, err
	}
	defer h.Kill()
	return f.on(dir, h.URL, h.Pid())
}

// on runs the load on the server of a process, and returns the metric.
func (f *figure) on(dir, url string, pid int) (float64, error) {
	url += "/v1/groups/{group}"
	args := append(slices.Clone(f.load), "--pid", strconv.Itoa(pid), "--sub-url", url, "--pub-url", url)
	out, err := command(dir, "loadgen", args...)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(out) {
		if field := strings.Fields(string(line)); len(field) >= 2 && field[0] == f.metric {
			return strconv.ParseFloat(field[1], 64)
		}
	}
	return 0, fmt.Errorf("loadgen did not measure %s: %s", f.metric, out)
}

func withNATS(f *figure, dir string, s servers.Servers) (float64, error) {
	return f.onHub(dir, "--nats", s.URL(), "--nats-replicas", "1")
}

func inMemory(f *figure, dir string, _ servers.Servers) (float64, error) { return f.onHub(dir) }

// publishBare publishes with nats.go alone: n goroutines, each waiting for the acknowledgement of its message
// before it sends the next. It returns the metric that loadgen has for POSTs.
func publishBare(s servers.Servers, n int, dur time.Duration, metric string) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dur+time.Minute)
	defer cancel()
	js, end, err := bareStream(ctx, s)
	if err != nil {
		return 0, err
	}
	defer end()
	var sent atomic.Int64
	var failed atomic.Pointer[error]
	latencies := make([][]float64, n)
	payload := bytes.Repeat([]byte("x"), 128)
	begin := time.Now()
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			for time.Since(begin) < dur {
				at := time.Now()
				if _, err := js.Publish(ctx, bareSubject, payload); err != nil {
					failed.Store(&err)
					return
				}
				latencies[i] = append(latencies[i], float64(time.Since(at))/float64(time.Millisecond))
				sent.Add(1)
			}
		})
	}
	wait.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	if metric == "posts_per_s" {
		return float64(sent.Load()) / time.Since(begin).Seconds(), nil
	}
	return median(slices.Concat(latencies...)), nil
}

const bareSubject = "bare.g0"

// bareStream makes a stream that stores bareSubject, unless there is one.
func bareStream(ctx context.Context, s servers.Servers) (js jetstream.JetStream, end func(), err error) {
	if js, end, err = s.Connect(); err != nil {
		return nil, nil, err
	}
	if _, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "BARE", Subjects: []string{bareSubject}}); err != nil {
		end()
		return nil, nil, err
	}
	return js, end, nil
}

// publishingHandler runs the load on an HTTP server that publishes the body of each request with nats.go, and does
// nothing else: what an exchange over HTTP adds to a publish.
func publishingHandler(f *figure, dir string, s servers.Servers) (float64, error) {
	js, end, err := bareStream(context.Background(), s)
	if err != nil {
		return 0, err
	}
	defer end()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = js.Publish(r.Context(), bareSubject, body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}))
	defer server.Close()
	return f.on(dir, server.URL, os.Getpid())
}
