//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/sse"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// fault is a figure of a cluster in which something is killed.
type fault struct {
	name, what, reach string
	do                func(context.Context, *cluster) (outcome, error)
}

// outcome is what a fault did.
type outcome struct {
	took     time.Duration
	election time.Duration // how long the servers had no leader; 0: they had one
	also     string
}

// measure runs the fault on a new cluster in each round and prints the worst.
func (f *fault) measure(dir string, rounds int) error {
	var worst outcome
	for range rounds {
		c, err := startCluster(dir)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		o, err := f.do(ctx, c)
		cancel()
		c.kill()
		if err != nil {
			return err
		}
		if o.took >= worst.took {
			worst = o
		}
	}
	beside, ratio := "", ""
	if worst.election > 0 {
		beside, ratio = fmt.Sprintf("election by the servers %.3g", worst.election.Seconds()), fmt.Sprintf("%.2f", float64(worst.took)/float64(worst.election))
	}
	fmt.Printf("| %s: %s | %.3g | %s | %s | %s | %s |\n", f.name, f.what, worst.took.Seconds(), beside, ratio, f.reach, worst.also)
	return nil
}

// listener is a session that moves to the next hub when its stream ends, as behind a load balancer.
type listener struct {
	got     atomic.Int64 // messages
	last    atomic.Int64 // the number in the newest message
	skipped atomic.Int64 // messages whose number was not the next
	opened  atomic.Int64 // streams
	gaps    atomic.Int64
	back    chan struct{} // gets a value for each stream after the first
}

func (l *listener) run(ctx context.Context, c *cluster, first int) {
	at := first
	url := func() string { return c.hubs[at%len(c.hubs)].URL + "/v1/groups/g" }
	client := sse.Client{URL: url(), Retry: 100 * time.Millisecond, MaxBackoff: time.Second}
	client.OnOpen = func(http.Header) {
		if l.opened.Add(1) > 1 {
			select {
			case l.back <- struct{}{}:
			default:
			}
		}
	}
	client.OnDisconnect = func(error, time.Duration) {
		at++
		client.URL = url()
	}
	client.OnEvent = func(e sse.Event) {
		var n int64
		switch {
		case e.Type == "gap":
			l.gaps.Add(1)
		case e.Type == "message":
			_, text, _ := strings.Cut(string(e.Data), `"msg":`)
			if _, err := fmt.Sscan(strings.TrimSuffix(text, "}"), &n); err != nil {
				return
			}
			if before := l.last.Swap(n); before != 0 && n != before+1 {
				l.skipped.Add(1)
			}
			l.got.Add(1)
		}
	}
	_ = client.Run(ctx)
}

// posts is what a publisher saw.
type posts struct {
	sent int64         // messages
	gap  time.Duration // the longest time between two acknowledgements
	call time.Duration // the longest time until a POST was answered, with an acknowledgement or an error
}

// post publishes the numbers from 1 until the context is done, each until it is acknowledged, at any hub.
func post(ctx context.Context, c *cluster, every time.Duration) (seen posts) {
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	at, last := 1, time.Now()
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, c.hubs[at%len(c.hubs)].URL+"/v1/groups/g", strings.NewReader(fmt.Sprint(seen.sent+1)))
		if err != nil {
			return seen
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", fmt.Sprint("n", seen.sent+1)) // the same at each hub
		began := time.Now()
		res, err := client.Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		seen.call = max(seen.call, time.Since(began))
		if err != nil || res.StatusCode != http.StatusCreated {
			at++
			time.Sleep(20 * time.Millisecond)
			continue
		}
		seen.sent++
		seen.gap = max(seen.gap, time.Since(last))
		last = time.Now()
		time.Sleep(every)
	}
	return seen
}

// killHub kills the hub of n sessions while messages are published, and returns how long it takes until each of them
// has a stream at another hub.
func killHub(ctx context.Context, c *cluster, n int) (outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	list := make([]listener, n)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for i := range list {
		list[i].back = make(chan struct{}, 1)
		running.Go(func() { list[i].run(ctx, c, 0) })
	}
	if err := until(ctx, "every session is open", func() bool { return every(list, func(l *listener) bool { return l.opened.Load() > 0 }) }); err != nil {
		return outcome{}, err
	}
	posting, stop := context.WithCancel(ctx)
	defer stop()
	var seen posts
	posted := make(chan struct{})
	go func() {
		seen = post(posting, c, 20*time.Millisecond)
		close(posted)
	}()
	if err := until(ctx, "every session gets messages", func() bool { return every(list, func(l *listener) bool { return l.got.Load() > 0 }) }); err != nil {
		return outcome{}, err
	}
	killed := time.Now()
	c.hubs[0].Kill()
	for i := range list {
		select {
		case <-list[i].back:
		case <-ctx.Done():
			return outcome{}, fmt.Errorf("session %d is not back: %w", i, ctx.Err())
		}
	}
	took := time.Since(killed)
	stop()
	<-posted
	if err := until(ctx, "every session has the last message", func() bool { return every(list, func(l *listener) bool { return l.last.Load() >= seen.sent }) }); err != nil {
		return outcome{}, err
	}
	return outcome{took: took, also: lost(list, seen.sent)}, nil
}

// killLeader kills the leader of the stream while messages are published one after the other, and returns the
// longest time between two acknowledgements, beside that of the election.
func killLeader(ctx context.Context, c *cluster) (o outcome, err error) {
	ctx, cancel := context.WithCancel(ctx)
	list := make([]listener, len(c.hubs))
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for i := range list {
		running.Go(func() { list[i].run(ctx, c, i) })
	}
	if err := until(ctx, "every listener is open", func() bool { return every(list, func(l *listener) bool { return l.opened.Load() > 0 }) }); err != nil {
		return o, err
	}
	posting, stop := context.WithCancel(ctx)
	defer stop()
	var seen posts
	posted := make(chan struct{})
	go func() {
		seen = post(posting, c, 0)
		close(posted)
	}()
	moves := func(by int64) error {
		from := list[0].got.Load()
		return until(ctx, "messages arrive", func() bool { return list[0].got.Load() >= from+by })
	}
	if err = moves(500); err == nil {
		o.election, err = elect(ctx, c.servers)
	}
	if err == nil {
		err = moves(500)
	}
	stop()
	<-posted
	if err == nil {
		err = until(ctx, "every listener has the last message", func() bool { return every(list, func(l *listener) bool { return l.last.Load() >= seen.sent }) })
	}
	o.took, o.also = seen.gap, fmt.Sprintf("%s, each POST answered within %.3g s", lost(list, seen.sent), seen.call.Seconds())
	return o, err
}

// elect kills the leader of the stream, and returns how long it takes until another server says that it leads.
func elect(ctx context.Context, all servers.Servers) (time.Duration, error) {
	leader, err := all.Leader(ctx, "WATCHBOX")
	if err != nil {
		return 0, err
	}
	others := slices.DeleteFunc(slices.Clone(all), func(s *servers.Server) bool { return s == leader })
	js, done, err := others.Connect()
	if err != nil {
		return 0, err
	}
	defer done()
	elected, err := js.Conn().SubscribeSync("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.WATCHBOX")
	if err == nil {
		err = js.Conn().FlushWithContext(ctx)
	}
	if err != nil {
		return 0, err
	}
	began := time.Now()
	leader.Kill()
	_, err = elected.NextMsgWithContext(ctx)
	return time.Since(began), err
}

// lost describes what was lost or repeated.
func lost(list []listener, sent int64) string {
	var skipped, gaps int64
	for i := range list {
		skipped += list[i].skipped.Load()
		gaps += list[i].gaps.Load()
	}
	return fmt.Sprintf("%d messages, %d lost or repeated, %d gaps", sent, skipped, gaps)
}

func every(list []listener, is func(*listener) bool) bool {
	for i := range list {
		if !is(&list[i]) {
			return false
		}
	}
	return true
}

// until polls until the condition holds.
func until(ctx context.Context, what string, holds func() bool) error {
	for !holds() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}
