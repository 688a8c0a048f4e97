// Command expiry measures what happens when the tokens of many streams expire at once. It opens n streams whose JWTs
// have the same exp, publishes meanwhile, and returns each stream with a new token and its last id when the hub
// ends it. It reports how the ends and the returns are spread, and whether a message was lost or repeated.
//
//	expiry -hub bin/watchbox -n 10000
package main

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	secret = "a secret of more than thirty-two bytes"

	// life is the lifetime of the first tokens. Most of it is over when they are used. The hub spreads the ends over
	// its last twentieth, at most 30 s.
	life = 12 * time.Minute

	// every is the time between two messages.
	every = 500 * time.Millisecond
)

func main() {
	hub := flag.String("hub", "bin/watchbox", "the program to measure")
	n := flag.Int("n", 10_000, "streams")
	left := flag.Duration("left", 75*time.Second, "time until the tokens expire")
	flag.Parse()
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "expiry")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := measure(*hub, filepath.Join(dir, "secret"), *n, *left); err != nil {
		log.Fatal(err)
	}
}

// measure runs a hub and prints the results.
func measure(hub, key string, n int, left time.Duration) error {
	if err := os.WriteFile(key, []byte(secret), 0o600); err != nil {
		return err
	}
	cmd := exec.Command(hub, "serve", "--listen", "127.0.0.1:0", "--jwt-key", key)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() }()
	line, err := bufio.NewReader(stderr).ReadString('\n')
	_, addr, found := strings.Cut(strings.TrimSpace(line), "http://")
	if err != nil || !found {
		return fmt.Errorf("the hub says %q: %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()

	r := &run{addr: addr, expires: time.Now().Add(left)}
	old := token(r.expires.Add(-life), r.expires)
	r.next = token(time.Now(), time.Now().Add(24*time.Hour))
	var wg sync.WaitGroup
	opening := make(chan struct{}, 64)
	for range n {
		opening <- struct{}{}
		wg.Go(func() { r.listen(old, sync.OnceFunc(func() { <-opening })) })
	}
	for range cap(opening) {
		opening <- struct{}{} // all are open
	}
	fmt.Printf("%d streams are open, %.0f s before their tokens expire\n", r.open.Load(), time.Until(r.expires).Seconds())
	published, err := r.publish(n)
	if err != nil {
		return err
	}
	wg.Wait()
	r.report(n, published)
	return nil
}

// run is one measurement.
type run struct {
	addr    string
	expires time.Time
	next    string // token of the streams that return
	open    atomic.Int64
	back    atomic.Int64

	mu             sync.Mutex // guards what follows
	ends, returns  []time.Duration
	waits          []time.Duration // from the end to the new stream, without the client's own delay
	lost, repeated int
	failures       []error
}

func token(issued, expires time.Time) string {
	encode := base64.RawURLEncoding.EncodeToString
	claims, _ := json.Marshal(map[string]any{
		"sub": "bench", "iat": issued.Unix(), "exp": expires.Unix(), "watchbox": map[string]any{"subscribe": []string{"a"}, "publish": []string{"a"}},
	})
	text := encode([]byte(`{"alg":"HS256"}`)) + "." + encode(claims)
	m := hmac.New(sha256.New, []byte(secret))
	_, _ = m.Write([]byte(text))
	return text + "." + encode(m.Sum(nil))
}

// publish sends numbered messages until all streams have returned, and then the last one, which ends them.
func (r *run) publish(n int) (count int, err error) {
	for late := time.Now().Add(10 * time.Minute); ; count++ {
		text := fmt.Sprint(count)
		if over := r.back.Load() == int64(n); over || time.Now().After(late) {
			text = "end"
		}
		req, err := http.NewRequest(http.MethodPost, "http://"+r.addr+"/v1/groups/a", strings.NewReader(text))
		if err != nil {
			return count, err
		}
		req.Header.Set("Authorization", "Bearer "+r.next)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return count, err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			return count, fmt.Errorf("the message is answered with %s", resp.Status)
		}
		if text == "end" {
			return count, nil
		}
		time.Sleep(every)
	}
}

// listener is the client of one stream.
type listener struct {
	run      *run
	id       string
	expected int // number of the next message; -1 before the first
}

// listen opens a stream, returns once when its token has expired, and stays until the last message.
func (r *run) listen(old string, opened func()) {
	l := &listener{run: r, expected: -1}
	defer opened()
	ended, err := l.stream(old, func() { r.open.Add(1); opened() })
	if err == nil && ended {
		now := time.Now()
		delay := rand.N(time.Second) // as clients wait
		time.Sleep(delay)
		ended, err = l.stream(r.next, func() {
			r.back.Add(1)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.ends = append(r.ends, now.Sub(r.expires))
			r.returns = append(r.returns, time.Since(r.expires))
			r.waits = append(r.waits, time.Since(now)-delay)
		})
	}
	if err == nil && ended {
		err = fmt.Errorf("the hub ended a stream twice")
	}
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.failures = append(r.failures, err)
		r.back.Add(1)
	}
}

// stream reads one stream. It reports whether the hub ended it because its token expired.
func (l *listener) stream(token string, opened func()) (ended bool, err error) {
	c, err := net.Dial("tcp", l.run.addr)
	if err != nil {
		return false, err
	}
	defer func() { _ = c.Close() }()
	req := "GET /v1/groups/a HTTP/1.1\r\nHost: " + l.run.addr + "\r\nAuthorization: Bearer " + token + "\r\n"
	if l.id != "" {
		req += "Last-Event-ID: " + l.id + "\r\n"
	}
	if _, err := io.WriteString(c, req+"\r\n"); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 1024), nil)
	if err != nil {
		return false, err
	}
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("a stream is answered with %s", resp.Status)
	}
	var event string
	for lines := bufio.NewReaderSize(resp.Body, 1024); ; {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return false, err
		}
		name, value, _ := bytes.Cut(bytes.TrimRight(line, "\n"), []byte(": "))
		switch string(name) {
		case "":
			event = ""
		case "event":
			event = string(value)
		case "id":
			l.id = string(value)
		case "data":
			switch event {
			case "session":
				opened()
			case "bye":
				return bytes.Contains(value, []byte("token-expired")), nil
			case "":
				if l.message(value) {
					return false, nil
				}
			default:
				return false, fmt.Errorf("the event %s: %s", event, value)
			}
		}
	}
}

// message counts what was lost and repeated. It reports whether the message is the last one.
func (l *listener) message(data []byte) (last bool) {
	var m struct{ Msg string }
	var n int
	if json.Unmarshal(data, &m) != nil || m.Msg == "end" {
		return true
	}
	_, _ = fmt.Sscan(m.Msg, &n)
	if l.expected >= 0 && n != l.expected {
		l.run.mu.Lock()
		defer l.run.mu.Unlock()
		l.run.lost += max(0, n-l.expected)
		l.run.repeated += max(0, l.expected-n)
	}
	l.expected = n + 1
	return false
}

func (r *run) report(n, published int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, list := range [][]time.Duration{r.ends, r.returns, r.waits} {
		slices.Sort(list)
	}
	fmt.Printf("returned: %d of %d; failed: %d %v\n", len(r.returns), n, len(r.failures), r.failures[:min(3, len(r.failures))])
	fmt.Printf("messages: %d to each, lost %d, repeated %d\n", published, r.lost, r.repeated)
	if len(r.returns) == 0 {
		return
	}
	last := len(r.returns) - 1
	fmt.Printf("ends: %.1f s to %.1f s after the expiry, at most %d in a second\n", r.ends[0].Seconds(), r.ends[last].Seconds(), most(r.ends))
	fmt.Printf("returns: at most %d in a second; p50 %.1f ms and p99 %.1f ms from the request to the open stream\n",
		most(r.returns), ms(r.waits[last/2]), ms(r.waits[last*99/100]))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// most returns the largest number of sorted times within a second.
func most(times []time.Duration) (count int) {
	first := 0
	for i, t := range times {
		for t-times[first] >= time.Second {
			first++
		}
		count = max(count, i-first+1)
	}
	return count
}
