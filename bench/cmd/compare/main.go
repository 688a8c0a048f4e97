// Command compare measures a hub beside the servers it is to be compared with: each scenario on
// each server in turn, in one run on one machine, and prints the figures and their ratio as a
// table. Run it by `make bench`, on a machine that does nothing else.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// server is one that scenarios run against.
type server struct {
	command   []string
	subscribe string
	publish   string
	replay    string
}

const addr = "127.0.0.1:9200"

var servers = map[string]server{
	"watchbox": {
		command:   []string{"watchbox", "serve", "--listen", addr, "--log-level", "error"},
		subscribe: "http://" + addr + "/v1/groups/{group}", publish: "http://" + addr + "/v1/groups/{group}",
		replay: "?since=all",
	},
	"limit":       {command: []string{"limit", "-addr", addr, "-keep", "1000"}, subscribe: "http://" + addr + "/{group}", publish: "http://" + addr + "/{group}", replay: "?replay"},
	"limit-batch": {command: []string{"limit", "-addr", addr, "-batch"}, subscribe: "http://" + addr + "/{group}", publish: "http://" + addr + "/{group}"},
	"r3labs":      {command: []string{"r3labs", "-addr", addr}, subscribe: "http://" + addr + "/events?stream={group}", publish: "http://" + addr + "/publish?stream={group}"},
}

// scenario is one row of the table: what is run, against what, and which figure is compared.
type scenario struct {
	name, what string
	load       []string
	reference  string
	metric     string
	reach      string
	also       []string // shown for the hub
}

func scenarios(dur string) []scenario {
	fanout := func(args ...string) []string { return append([]string{"fanout", "--dur", dur}, args...) }
	lat := []string{"lat_p50_ms", "lat_p99_ms", "lost"}
	return []scenario{
		{"S1", "1,000 listeners, 20 messages/s: CPU µs per delivery", fanout("--subs", "1000", "--rate", "20"), "limit", "server_cpu_us_per_delivery", "≤ 1.10", lat},
		{"S2", "1,000 listeners, 4 publishers as fast as answered: deliveries/s", fanout("--subs", "1000", "--rate", "max", "--pub-conns", "4"), "limit-batch", "deliveries_per_s", "", lat},
		{"S2c", "the same with 64 publishers", fanout("--subs", "1000", "--rate", "max", "--pub-conns", "64"), "limit-batch", "deliveries_per_s", "≥ 0.6", lat},
		{"S3", "10,000 listeners, 2 messages/s: CPU µs per delivery", fanout("--subs", "10000", "--rate", "2", "--src-ips", "4"), "limit", "server_cpu_us_per_delivery", "≤ 1.10", lat},
		{"S4", "10,000 idle listeners: bytes per connection after one message", []string{"idle", "--subs", "10000", "--src-ips", "4"}, "limit", "rss_per_conn_touched", "≤ 2,000 bytes", []string{"idle_cores"}},
		{"S5", "16 publishers, no listener: CPU µs per POST", []string{"publish", "--dur", dur, "--subs", "0", "--pub-conns", "16"}, "r3labs", "server_cpu_us_per_post", "≤ 1.1", []string{"posts_per_s"}},
		{"S6", "1,000 messages replayed to 1,000 listeners at once: CPU µs per delivery", []string{"replay", "--subs", "1000", "--messages", "1000", "--pub-conns", "1"}, "limit", "server_cpu_us_per_delivery", "≤ 2", []string{"replay_s", "full"}},
		{"S7", "5,000 groups with one listener each, 2,000 messages/s: CPU µs per delivery", fanout("--subs", "5000", "--groups", "5000", "--rate", "2000", "--src-ips", "2"), "limit", "server_cpu_us_per_delivery", "≤ 1.5", lat},
		{"S8", "500 listeners replaced a second: CPU µs per turn", []string{"churn", "--dur", dur, "--subs", "1000", "--churn-rate", "500"}, "limit", "server_cpu_us_per_turn", "≤ 0.8", []string{"rss_growth"}},
	}
}

func main() {
	bin := flag.String("bin", "bin", "folder with watchbox, limit, r3labs and loadgen")
	dur := flag.Duration("dur", 10*time.Second, "how long each scenario runs on each server")
	rounds := flag.Int("rounds", 3, "how often; the median counts")
	only := flag.String("only", "", "scenarios to run, by comma; all if empty")
	query := flag.String("query", "", "appended to the hub's subscribe URL, as ?format=raw")
	flag.Parse()
	fmt.Println("| scenario | watchbox | reference | ratio | reach | |")
	fmt.Println("| --- | --- | --- | --- | --- | --- |")
	for _, s := range scenarios(dur.String()) {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), s.name) {
			continue
		}
		if err := s.row(*bin, *rounds, *query); err != nil {
			fmt.Fprintln(os.Stderr, s.name+":", err)
			os.Exit(1)
		}
	}
	for _, o := range own {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), o.name) {
			continue
		}
		stop, err := start(*bin)
		if err == nil {
			var value float64
			var also string
			value, also, err = o.measure("http://"+addr, *dur)
			stop()
			fmt.Printf("| %s: %s | %.6g | | | %s | %s |\n", o.name, o.what, value, o.reach, also)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, o.name+":", err)
			os.Exit(1)
		}
	}
}

// row measures a scenario on both servers in turn, and prints the medians.
func (s *scenario) row(bin string, rounds int, query string) error {
	var ours, theirs, ratios []float64
	var last map[string]float64
	for range rounds {
		hub := servers["watchbox"]
		hub.subscribe += query
		got, err := s.run(bin, hub)
		if err != nil {
			return err
		}
		ref, err := s.run(bin, servers[s.reference])
		if err != nil {
			return err
		}
		last = got
		ours, theirs = append(ours, got[s.metric]), append(theirs, ref[s.metric])
		ratios = append(ratios, got[s.metric]/ref[s.metric])
	}
	var also []string
	for _, name := range s.also {
		also = append(also, fmt.Sprintf("%s %.4g", name, last[name]))
	}
	fmt.Printf("| %s: %s | %.4g | %s %.4g | %.2f | %s | %s |\n",
		s.name, s.what, median(ours), s.reference, median(theirs), median(ratios), s.reach, strings.Join(also, ", "))
	return nil
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// run starts the server, loads it and returns what the load generator measured.
func (s *scenario) run(bin string, srv server) (map[string]float64, error) {
	cmd := exec.Command(filepath.Join(bin, srv.command[0]), srv.command[1:]...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	time.Sleep(700 * time.Millisecond) // it listens by then
	args := append(slices.Clone(s.load), "--pid", strconv.Itoa(cmd.Process.Pid), "--sub-url", srv.subscribe, "--pub-url", srv.publish)
	if s.load[0] == "replay" {
		args = append(args, "--replay-query", srv.replay)
	}
	out, err := exec.Command(filepath.Join(bin, "loadgen"), args...).Output()
	if err != nil {
		return nil, fmt.Errorf("loadgen on %s: %w", srv.command[0], err)
	}
	figures := map[string]float64{}
	for line := range bytes.Lines(out) {
		if f := strings.Fields(string(line)); len(f) >= 2 {
			if v, err := strconv.ParseFloat(f[1], 64); err == nil {
				figures[f[0]] = v
			}
		}
	}
	if _, ok := figures[s.metric]; !ok {
		return nil, fmt.Errorf("loadgen on %s did not measure %s", srv.command[0], s.metric)
	}
	return figures, nil
}
