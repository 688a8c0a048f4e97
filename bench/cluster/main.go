//go:build linux

// Command cluster measures hubs whose log is kept by NATS, and prints the table of docs/PERFORMANCE.md for them. Every
// timing is beside one of the same run: a hub with its log in memory, or a program that publishes to the
// same server with nats.go. It builds all programs that it needs.
//
//	cd bench/cluster && go run .
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/test/cluster/hubs"
)

func main() {
	dur := flag.Duration("dur", 10*time.Second, "how long each load runs")
	rounds := flag.Int("rounds", 3, "how often each load runs; the median is printed")
	only := flag.String("only", "", "figures to measure, separated by commas: N1, N3, N2c, post, floor, posts, hub, leader; all if empty")
	sessions := flag.Int("sessions", 2000, "sessions of the hub that is killed")
	flag.Parse()
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "cluster")
	if err != nil {
		log.Fatal(err)
	}
	err = run(dir, *dur, *rounds, *sessions, func(name string) bool {
		return *only == "" || slices.Contains(strings.Split(*only, ","), name)
	})
	_ = os.RemoveAll(dir)
	if err != nil {
		log.Fatal(err)
	}
}

func run(dir string, dur time.Duration, rounds, sessions int, wanted func(string) bool) error {
	if _, err := hubs.Build(dir); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "loadgen"), ".")
	cmd.Dir = "../cmd/loadgen" // a module of its own
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build loadgen: %w: %s", err, out)
	}
	fmt.Println("| figure | hub with NATS | beside | ratio | reach | |")
	fmt.Println("| --- | --- | --- | --- | --- | --- |")
	for _, f := range figures(dur) {
		if !wanted(f.name) {
			continue
		}
		if err := f.measure(dir, rounds); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	for _, f := range []fault{
		{"hub", fmt.Sprintf("a hub with %d sessions is killed: until the last one is back elsewhere, s", sessions), "≤ 5 s, 0 lost", func(ctx context.Context, c *cluster) (outcome, error) {
			return killHub(ctx, c, sessions)
		}},
		{"leader", "the leader of the stream is killed: the longest time without an acknowledged POST, s", "≤ 5 s, 0 lost", killLeader},
	} {
		if !wanted(f.name) {
			continue
		}
		if err := f.measure(dir, rounds); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// command runs a program of the folder and returns its output.
func command(dir, name string, args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.Command(filepath.Join(dir, name), args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return out, nil
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return math.NaN()
	}
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
