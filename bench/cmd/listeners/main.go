// Command listeners measures how much memory of a hub an idle listener takes: over plain HTTP/1.1, over TLS with
// HTTP/1.1, and over HTTP/2 with a connection for each listener or for fifty. It starts a new hub for
// each. The memory is the resident memory of the process, so it includes stacks and the runtime's reserves.
//
//	listeners -hub bin/watchbox -n 2000
package main

import (
	"bufio"
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"bench/internal/selfsigned"
)

// way is one way to reach the hub.
type way struct {
	name  string
	tls   bool
	http2 bool
	share int           // listeners of one connection
	keys  []tls.CurveID // for the key exchange; nil for Go's default
}

var ways = []way{
	{"plain HTTP/1.1", false, false, 1, nil},
	{"TLS, HTTP/1.1", true, false, 1, nil},
	{"TLS, HTTP/1.1, without post-quantum keys", true, false, 1, []tls.CurveID{tls.X25519}},
	{"TLS, HTTP/2, a connection each", true, true, 1, nil},
	{"TLS, HTTP/2, 50 on a connection", true, true, 50, nil},
}

func main() {
	hub := flag.String("hub", "bin/watchbox", "the program to measure")
	n := flag.Int("n", 2000, "listeners")
	settle := flag.Duration("settle", 10*time.Second, "time for the hub to return memory")
	flag.Parse()
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "listeners")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cert, key, err := selfsigned.Write(dir)
	if err != nil {
		log.Fatal(err)
	}
	secure := []string{"--tls-cert", cert, "--tls-key", key}
	for _, w := range ways {
		bytes, err := measure(*hub, secure, w, *n, *settle)
		if err != nil {
			log.Fatalf("%s: %v", w.name, err)
		}
		fmt.Printf("%-40s %6.1f KB a listener\n", w.name, float64(bytes)/float64(*n)/1000)
	}
}

// measure returns how much the hub's resident memory grows by n listeners.
func measure(hub string, secure []string, w way, n int, settle time.Duration) (int64, error) {
	args := []string{"serve", "--listen", "127.0.0.1:0", "--heartbeat", "1h"}
	if w.tls {
		args = append(args, secure...)
	}
	cmd := exec.Command(hub, args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	line, err := bufio.NewReader(stderr).ReadString('\n')
	if err != nil {
		return 0, err
	}
	url := strings.TrimSpace(strings.TrimPrefix(line, "watchbox listens on "))
	if err := w.listen(url, 100); err != nil { // so that the initial cost does not count
		return 0, err
	}
	time.Sleep(settle)
	before, err := resident(cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	if err := w.listen(url, n); err != nil {
		return 0, err
	}
	time.Sleep(settle)
	after, err := resident(cmd.Process.Pid)
	return after - before, err
}

// listen opens n streams, which stay open, and reads the beginning of each.
func (w way) listen(url string, n int) error {
	var client *http.Client
	for i := range n {
		if i%w.share == 0 {
			client = &http.Client{Transport: &http.Transport{
				TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, CurvePreferences: w.keys}, // the certificate is our own, on the loopback interface
				ForceAttemptHTTP2: w.http2, ReadBufferSize: 512, WriteBufferSize: 512,
			}}
		}
		resp, err := client.Get(url + "/v1/groups/foo")
		if err != nil {
			return err
		}
		if want := map[bool]int{true: 2, false: 1}[w.http2]; resp.StatusCode != http.StatusOK || resp.ProtoMajor != want {
			return fmt.Errorf("the answer is %s %s", resp.Proto, resp.Status)
		}
		if _, err := resp.Body.Read(make([]byte, 512)); err != nil {
			return err
		}
		keep = append(keep, resp)
	}
	return nil
}

// keep holds the responses, so that no stream is closed.
var keep []*http.Response

// resident returns the resident memory of a process, in bytes.
func resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	var size, pages int64
	_, err = fmt.Sscan(string(text), &size, &pages)
	return pages * int64(syscall.Getpagesize()), err
}
