//go:build linux

// Command mqtt measures watchbox serve --mqtt beside Debian's mosquitto, one after the other in the same run, and prints the table
// of docs/PERFORMANCE.md for them. It builds the hub, and connects to 127.0.0.1 only.
//
//	cd bench/mqtt && go run .
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/watchbox-go/watchbox/test/cluster/hubs"
)

func main() {
	var o options
	flag.DurationVar(&o.dur, "dur", 10*time.Second, "how long each load runs")
	flag.IntVar(&o.conns, "conns", 10_000, "idle connections and sessions")
	rounds := flag.Int("rounds", 3, "how often each load runs; the median is printed")
	only := flag.String("only", "", "figures to measure, separated by commas: fanout, fanin, qos1, idle, recent, offline; all if empty")
	flag.Parse()
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "mqtt")
	if err != nil {
		log.Fatal(err)
	}
	err = run(dir, o, *rounds, func(name string) bool {
		return *only == "" || slices.Contains(strings.Split(*only, ","), name)
	})
	_ = os.RemoveAll(dir)
	if err != nil {
		log.Fatal(err)
	}
}

func run(dir string, o options, rounds int, wanted func(string) bool) error {
	runtime.LockOSThread()
	// The servers inherit this.
	files := syscall.Rlimit{Cur: uint64(o.conns) + 2000, Max: uint64(o.conns) + 2000}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("allow %d open files: %w", files.Cur, err)
	}
	if _, err := hubs.Build(dir); err != nil {
		return err
	}
	fmt.Println("| figure | watchbox | mosquitto | ratio | reach |")
	fmt.Println("| --- | --- | --- | --- | --- |")
	for _, f := range figures {
		if !wanted(f.name) {
			continue
		}
		if err := f.print(dir, o, rounds); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// print measures both servers in turn, as often as there are rounds, and prints the figure.
func (f *figure) print(dir string, o options, rounds int) error {
	values := make([][]float64, len(brokers))
	var ratios, syncs []float64
	for range rounds {
		for i, b := range brokers {
			v, err := f.on(b, dir, o)
			if err != nil {
				return fmt.Errorf("%s: %w", b.name, err)
			}
			values[i] = append(values[i], v)
		}
		ratios = append(ratios, values[0][len(ratios)]/values[1][len(ratios)])
		if f.name == "qos1" {
			n, err := bareSyncs(dir, time.Second)
			if err != nil {
				return err
			}
			syncs = append(syncs, n)
		}
	}
	what := f.what
	if len(syncs) > 0 {
		what += fmt.Sprintf("; a loop of write and fsync alone: %.4g/s", median(syncs))
	}
	fmt.Printf("| %s: %s | %.4g | %.4g | %.2f | %s |\n", f.name, what, median(values[0]), median(values[1]), median(ratios), f.reach)
	return nil
}

// on starts a server and measures it.
func (f *figure) on(b broker, dir string, o options) (float64, error) {
	s, err := b.start(dir, f.onDisk)
	if err != nil {
		return 0, err
	}
	defer s.Kill()
	return f.measure(s, o)
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
