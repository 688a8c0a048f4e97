package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const address = "127.0.0.1:9300"

// hub is a running server.
type hub struct {
	cmd   *exec.Cmd
	began time.Duration // time until it was ready
}

// start runs `watchbox serve` with these arguments.
func (s settings) start(args ...string) (*hub, error) {
	command := append([]string{filepath.Join(s.bin, "watchbox"), "serve", "--listen", address}, args...)
	if s.slower > 0 { // -D: the hub is our child, not strace
		command = append([]string{
			"strace", "-D", "-f", "-qq", "--seccomp-bpf", "-o", os.DevNull, "-e", "trace=fdatasync,fsync",
			"-e", fmt.Sprintf("inject=fdatasync,fsync:delay_exit=%d", s.slower.Microseconds()),
		}, command...)
	}
	h := &hub{cmd: exec.Command(command[0], command[1:]...)}
	began := time.Now()
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	for time.Since(began) < time.Minute {
		if resp, err := http.Get("http://" + address + "/readyz"); err == nil {
			_ = resp.Body.Close()
			h.began = time.Since(began)
			return h, nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.kill()
	return nil, errors.New("the hub does not become ready")
}

// kill kills the process.
func (h *hub) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
}

// stop shuts the process down.
func (h *hub) stop() error {
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return h.cmd.Wait()
}

// memory returns the process's resident bytes, at their peak or now.
func (h *hub) memory(field string) (bytes int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.cmd.Process.Pid))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			bytes = kb << 10
		}
	}
	return bytes
}

// connections are the numbers of concurrent publishers.
var connections = []int{1, 16, 256}

// posts measures POSTs to a hub on disk and in memory, and commits to the bare disk and to bbolt.
func posts(s settings) error {
	fmt.Printf("messages of %d bytes a second, each durable before it is acknowledged (but in memory)\n\n", s.size)
	fmt.Printf("| | 1 | 16 | 256 at once | 256 : 1 |\n| --- | --- | --- | --- | --- |\n")
	row := func(name string, rate func(n int) (float64, error)) error {
		var rates []float64
		for _, n := range connections {
			r, err := rate(n)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			rates = append(rates, r)
		}
		fmt.Printf("| %s | %.0f | %.0f | %.0f | %.1f |\n", name, rates[0], rates[1], rates[2], rates[2]/rates[0])
		return nil
	}
	bare := func(k int) func(n int) (float64, error) {
		return func(n int) (float64, error) {
			dir := filepath.Join(s.dir, fmt.Sprint("bare-", k, "-", n))
			if err := os.Mkdir(dir, 0o700); err != nil {
				return 0, err
			}
			e, err := kinds[k].open(dir)
			if err != nil {
				return 0, err
			}
			rate, _, err := load(e, s, n, kinds[k].grouped)
			return rate, errors.Join(err, e.close())
		}
	}
	fsync := func(int) (float64, error) { // writes that do not share an fsync
		return bareFsync(filepath.Join(s.dir, "fsync"), s)
	}
	type way struct {
		name string
		rate func(n int) (float64, error)
	}
	ways := []way{
		{"the bare disk: write, fdatasync, one after the other", fsync},
		{"the bare disk, one fdatasync for all that wait", bare(0)},
		{"bbolt, a transaction each, without HTTP", bare(4)},
		{"POSTs to a hub with --data-dir", func(n int) (float64, error) {
			return s.publish(n, "--data-dir", filepath.Join(s.dir, fmt.Sprint("hub-", n)))
		}},
		{"POSTs to a hub in memory", func(n int) (float64, error) { return s.publish(n) }},
	}
	if s.slower > 0 { // only the fsync of the hub is slower
		ways = ways[3:4]
	}
	for _, r := range ways {
		if err := row(r.name, r.rate); err != nil {
			return err
		}
	}
	return nil
}

// bareFsync returns how many writes per second the disk takes, with an fsync for each.
func bareFsync(path string, s settings) (float64, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	began, n, msg := time.Now(), 0, make([]byte, s.size)
	for ; err == nil && time.Since(began) < s.dur; n++ {
		if _, err = f.Write(msg); err == nil {
			err = syscall.Fdatasync(int(f.Fd()))
		}
	}
	return float64(n) / time.Since(began).Seconds(), errors.Join(err, f.Close())
}

// publish runs the load generator with a number of connections.
func (s settings) publish(n int, args ...string) (rate float64, err error) {
	h, err := s.start(args...)
	if err != nil {
		return 0, err
	}
	defer h.kill()
	out, err := exec.Command(filepath.Join(s.bin, "loadgen"), "publish", "--subs", "0",
		"--pub-conns", strconv.Itoa(n), "--dur", s.dur.String(), "--size", strconv.Itoa(s.size), "--settle", "100ms",
		"--sub-url", "http://"+address+"/v1/groups/{group}", "--pub-url", "http://"+address+"/v1/groups/{group}").Output()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "posts_per_s" {
			return strconv.ParseFloat(f[1], 64)
		}
	}
	return 0, errors.New("the load generator printed no result")
}
