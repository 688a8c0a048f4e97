// Command compare measures a hub beside the servers it is compared with. It runs each scenario on
// each server in turn, on one machine, and prints the figures and their ratios as a table. Run it by
// `make bench`, on a machine that does nothing else.
package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"bench/internal/selfsigned"
)

// server is a server to measure. In its fields, {addr} stands for the address that it listens on, and {cert} and {key}
// for files with a certificate and its key.
type server struct {
	command   []string
	subscribe string
	publish   string
	replay    string
}

var servers = map[string]server{
	"watchbox": {
		command:   []string{"watchbox", "serve", "--listen", "{addr}", "--log-level", "error"},
		subscribe: "http://{addr}/v1/groups/{group}", publish: "http://{addr}/v1/groups/{group}",
		replay: "?since=all",
	},
	"watchbox-tls": {
		command:   []string{"watchbox", "serve", "--listen", "{addr}", "--log-level", "error", "--tls-cert", "{cert}", "--tls-key", "{key}"},
		subscribe: "https://{addr}/v1/groups/{group}", publish: "https://{addr}/v1/groups/{group}",
		replay: "?since=all",
	},
	"limit":       {command: []string{"limit", "-addr", "{addr}", "-keep", "1000"}, subscribe: "http://{addr}/{group}", publish: "http://{addr}/{group}", replay: "?replay"},
	"limit-batch": {command: []string{"limit", "-addr", "{addr}", "-batch"}, subscribe: "http://{addr}/{group}", publish: "http://{addr}/{group}"},
	"bare":        {command: []string{"bare", "-addr", "{addr}"}, subscribe: "http://{addr}/{group}", publish: "http://{addr}/{group}"},
	"r3labs":      {command: []string{"r3labs", "-addr", "{addr}"}, subscribe: "http://{addr}/events?stream={group}", publish: "http://{addr}/publish?stream={group}"},
}

// scenario is a load to measure on the hub and on the servers it is compared with.
type scenario struct {
	name, what string
	hub        string // the server to measure; "" for watchbox
	load       []string
	figures    []figure
	also       []string // metrics that are shown for the hub alone
}

// figure is one row of the table: a metric of the hub beside that of another server.
type figure struct {
	what      string
	metric    string
	reference string
	target    string
}

// Figures that several scenarios share.
const (
	perDelivery = "CPU µs per delivery"
	delivery    = "server_cpu_us_per_delivery"
)

func scenarios(dur string) []scenario {
	fanout := func(args ...string) []string { return append([]string{"fanout", "--dur", dur}, args...) }
	lat := []string{"lat_p50_ms", "lat_p99_ms", "lost"}
	groups := []string{"--subs", "5000", "--groups", "5000", "--src-ips", "2"}
	return []scenario{
		{"S1", "1,000 listeners, 20 messages/s", "", fanout("--subs", "1000", "--rate", "20"),
			[]figure{{perDelivery, delivery, "limit", "≤ 1.10"}}, lat},
		{"S1t", "S1 over TLS", "watchbox-tls", fanout("--subs", "1000", "--rate", "20"),
			[]figure{{perDelivery, delivery, "watchbox", "≤ 2"}}, lat},
		{"S2", "1,000 listeners, 4 publishers as fast as answered", "", fanout("--subs", "1000", "--rate", "max", "--pub-conns", "4"),
			[]figure{{"deliveries/s", "deliveries_per_s", "limit-batch", ""}}, lat},
		{"S2c", "the same with 64 publishers", "", fanout("--subs", "1000", "--rate", "max", "--pub-conns", "64"),
			[]figure{{"deliveries/s", "deliveries_per_s", "limit-batch", "≥ 0.6"}, {"p99 ms", "lat_p99_ms", "limit-batch", "≤ 150 ms"}}, lat},
		{"S3", "10,000 listeners, 2 messages/s", "", fanout("--subs", "10000", "--rate", "2", "--src-ips", "4"),
			[]figure{{perDelivery, delivery, "limit", "≤ 1.10"}}, lat},
		{"S4", "10,000 idle listeners", "", []string{"idle", "--subs", "10000", "--src-ips", "4"},
			[]figure{{"bytes per connection after one message", "rss_per_conn_touched", "limit", "≤ 2,000 bytes"}}, []string{"idle_cores"}},
		{"S5", "16 publishers, no listener", "", []string{"publish", "--dur", dur, "--subs", "0", "--pub-conns", "16"},
			[]figure{{"CPU µs per POST", "server_cpu_us_per_post", "bare", "≤ 1.35"}, {"CPU µs per POST", "server_cpu_us_per_post", "r3labs", ""}}, []string{"posts_per_s"}},
		{"S6", "1,000 messages replayed to 1,000 listeners at once", "", []string{"replay", "--subs", "1000", "--messages", "1000", "--pub-conns", "1"},
			[]figure{{perDelivery, delivery, "limit", "≤ 4"}}, []string{"replay_s", "full"}},
		{"S6t", "S6 over TLS", "watchbox-tls", []string{"replay", "--subs", "1000", "--messages", "1000", "--pub-conns", "1"},
			[]figure{{perDelivery, delivery, "watchbox", ""}}, []string{"replay_s", "full"}},
		{"S7c", "5,000 groups with one listener each, 4 publishers as fast as answered", "", fanout(append(groups, "--rate", "max", "--pub-conns", "4")...),
			[]figure{{perDelivery, delivery, "r3labs", "≤ 1.1"}, {"p99 ms", "lat_p99_ms", "r3labs", "≤ 1"}}, append(lat, "deliveries_per_s")},
		{"S7", "the same, 2,000 messages/s", "", fanout(append(groups, "--rate", "2000")...),
			[]figure{{"p50 ms", "lat_p50_ms", "r3labs", "≤ 1"}, {"p99 ms", "lat_p99_ms", "r3labs", "≤ 1"}, {perDelivery, delivery, "r3labs", ""}, {perDelivery, delivery, "limit", ""}}, lat},
		{"S8", "500 listeners replaced a second", "", []string{"churn", "--dur", dur, "--subs", "1000", "--churn-rate", "500"},
			[]figure{{"CPU µs per turn", "server_cpu_us_per_turn", "r3labs", "≤ 1.15"}, {"CPU µs per turn", "server_cpu_us_per_turn", "limit", ""}}, []string{"rss_growth"}},
	}
}

func main() {
	bin := flag.String("bin", "bin", "folder with watchbox, limit, bare, r3labs and loadgen")
	dur := flag.Duration("dur", 10*time.Second, "how long each scenario runs on each server")
	rounds := flag.Int("rounds", 3, "how often to run each scenario; the median is printed")
	only := flag.String("only", "", "scenarios to run, separated by commas; all if empty")
	query := flag.String("query", "", "appended to the hub's subscribe URL, as ?format=raw")
	flag.Parse()
	wanted := func(name string) bool {
		return *only == "" || slices.Contains(strings.Split(*only, ","), name)
	}
	dir, err := os.MkdirTemp("", "compare")
	if err != nil {
		fail("certificate", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := certify(dir); err != nil {
		fail("certificate", err)
	}
	fmt.Println("| scenario | watchbox | reference | ratio | target | |")
	fmt.Println("| --- | --- | --- | --- | --- | --- |")
	for _, s := range scenarios(dur.String()) {
		if !wanted(s.name) {
			continue
		}
		if err := s.measure(*bin, *rounds, *query); err != nil {
			fail(s.name, err)
		}
	}
	for _, o := range own {
		if !wanted(o.name) {
			continue
		}
		addr, stop, _, err := servers["watchbox"].launch(*bin)
		if err != nil {
			fail(o.name, err)
		}
		value, also, err := o.measure("http://"+addr, *dur)
		stop()
		if err != nil {
			fail(o.name, err)
		}
		fmt.Printf("| %s: %s | %.6g | | | %s | %s |\n", o.name, o.what, value, o.target, also)
	}
}

// certify creates a certificate in a folder, and completes the command of the server that uses it.
func certify(dir string) error {
	cert, key, err := selfsigned.Write(dir)
	command := servers["watchbox-tls"].command
	for i := range command {
		command[i] = strings.NewReplacer("{cert}", cert, "{key}", key).Replace(command[i])
	}
	return err
}

func fail(name string, err error) {
	fmt.Fprintln(os.Stderr, name+":", err)
	os.Exit(1)
}

// measure runs a scenario on the hub and on each reference in turn, and prints a row for each figure.
func (s *scenario) measure(bin string, rounds int, query string) error {
	hub := servers[s.subject()]
	hub.subscribe += query
	runs := map[string][]map[string]float64{} // by server, one a round
	for range rounds {
		for _, name := range s.servers() {
			srv := servers[name]
			if name == s.subject() {
				srv = hub
			}
			got, err := s.run(bin, srv)
			if err != nil {
				return err
			}
			runs[name] = append(runs[name], got)
		}
	}
	var also []string
	for _, metric := range s.also {
		also = append(also, fmt.Sprintf("%s %.4g", metric, median(values(runs[s.subject()], metric))))
	}
	for i, f := range s.figures {
		ours, theirs := values(runs[s.subject()], f.metric), values(runs[f.reference], f.metric)
		if len(ours) < rounds || len(theirs) < rounds {
			return fmt.Errorf("loadgen did not measure %s", f.metric)
		}
		ratios := make([]float64, rounds)
		for k := range ratios {
			ratios[k] = ours[k] / theirs[k]
		}
		rest := ""
		if i == 0 {
			rest = strings.Join(also, ", ")
		}
		fmt.Printf("| %s: %s: %s | %.4g | %s %.4g | %.2f | %s | %s |\n",
			s.name, s.what, f.what, median(ours), f.reference, median(theirs), median(ratios), f.target, rest)
	}
	return nil
}

// subject returns the name of the server that the scenario measures.
func (s *scenario) subject() string { return cmp.Or(s.hub, "watchbox") }

// servers returns the names of the servers that the scenario runs on, the hub first.
func (s *scenario) servers() []string {
	list := []string{s.subject()}
	for _, f := range s.figures {
		if !slices.Contains(list, f.reference) {
			list = append(list, f.reference)
		}
	}
	return list
}

// values returns a metric of each run that has it.
func values(runs []map[string]float64, metric string) (list []float64) {
	for _, r := range runs {
		if v, ok := r[metric]; ok {
			list = append(list, v)
		}
	}
	return list
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return math.NaN()
	}
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// launch starts the server on a free port. It runs until stop is called.
func (s server) launch(bin string) (addr string, stop func(), pid int, err error) {
	if addr, err = freeAddr(); err != nil {
		return "", nil, 0, err
	}
	args := make([]string, len(s.command))
	for i, a := range s.command {
		args[i] = strings.ReplaceAll(a, "{addr}", addr)
	}
	cmd := exec.Command(filepath.Join(bin, args[0]), args[1:]...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return "", nil, 0, err
	}
	stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return addr, stop, cmd.Process.Pid, nil
		}
		if time.Now().After(end) {
			stop()
			return "", nil, 0, fmt.Errorf("%s does not listen: %w: %s", args[0], err, &said)
		}
	}
}

// freeAddr returns an address without a listener.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String(), nil
}

// run starts the server, runs the load generator on it and returns the results.
func (s *scenario) run(bin string, srv server) (map[string]float64, error) {
	addr, stop, pid, err := srv.launch(bin)
	if err != nil {
		return nil, err
	}
	defer stop()
	url := func(template string) string { return strings.ReplaceAll(template, "{addr}", addr) }
	args := append(slices.Clone(s.load), "--pid", strconv.Itoa(pid), "--sub-url", url(srv.subscribe), "--pub-url", url(srv.publish))
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
	return figures, nil
}
