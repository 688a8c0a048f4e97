package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/watchbox-go/watchbox/internal/remote"
)

// Bounds of the loads, besides --time.
const (
	benchPublishers = 16
	benchFanOut     = 4                    // publishers to the group of all listeners
	benchPosts      = 200_000              // the most that a publisher sends
	benchWarmUp     = 200                  // listeners and messages before the measurement, so that the hub has begun to work
	benchOpening    = 32                   // listeners opened at once
	benchSettle     = 5 * trimEvery / 2    // before memory is read, so that the hub has returned what it needs no more
	benchPause      = 5 * time.Millisecond // between the messages that measure the delivery
	benchExpiry     = "1h"                 // of messages of a running hub, in case it refuses to remove them
)

// load puts load on a hub. Its messages are in groups of its own.
type load struct {
	server Server
	bench  *bench
	group  string
	query  string // of a POST
	random []byte // letters
	begun  time.Time

	ctx       context.Context // of the listeners
	cancel    context.CancelFunc
	listening sync.WaitGroup
	received  atomic.Int64 // messages of the listeners that are counted
}

func newLoad(b *bench, hub hubURL) *load {
	l := &load{
		server: Server{URL: hub, Credentials: b.Credentials, client: newHubClient(hub)}, bench: b,
		group: "bench/" + uuid.NewString()[:8], begun: time.Now(),
	}
	for range 2 * mostSize {
		l.random = append(l.random, byte('a'+rand.IntN(26)))
	}
	if b.Hub != "" {
		l.query = "?ttl=" + benchExpiry
	}
	l.server.client.Transport.(*http.Transport).MaxIdleConnsPerHost = benchPublishers
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// close ends the listeners. From a running hub it removes the messages; those that it may not remove expire.
func (l *load) close() {
	l.cancel()
	l.listening.Wait()
	defer l.server.client.CloseIdleConnections()
	if l.bench.Hub == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	groups := []string{"warm", "all", "single"}
	for i := range benchPublishers {
		groups = append(groups, publishGroup(i))
	}
	for _, name := range groups {
		req, err := http.NewRequestWithContext(ctx, http.MethodDelete, l.server.url("/v1/groups/", l.group+"/"+name), nil)
		if err != nil || l.server.authorize(req) != nil {
			return
		}
		if res, err := l.server.client.Do(req); err == nil {
			_ = res.Body.Close() // it is empty
		}
	}
}

func publishGroup(i int) string { return fmt.Sprint("publish/", i) }

// text returns the text of a message: random letters, which compress little.
func (l *load) text() []byte {
	from := rand.IntN(mostSize)
	return slices.Clone(l.random[from : from+int(l.bench.Size)])
}

// post sends a message.
func (l *load) post(ctx context.Context, name string, text []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.server.url("/v1/groups/", l.group+"/"+name)+l.query, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/plain")
	var answer struct{ ID string }
	return l.server.do(req, &answer, func() bool { return answer.ID != "" })
}

// postFor has publishers send messages until the time is over, and returns how long each POST took.
func (l *load) postFor(ctx context.Context, publishers int, name func(int) string) (took []time.Duration, err error) {
	var mu sync.Mutex // guards the results
	var all sync.WaitGroup
	end := time.Now().Add(l.bench.Time)
	for i := range publishers {
		all.Go(func() {
			var own []time.Duration
			var failed error
			for now := time.Now(); now.Before(end) && len(own) < benchPosts && failed == nil; {
				failed = l.post(ctx, name(i), l.text())
				then := now
				now = time.Now()
				own = append(own, now.Sub(then))
			}
			mu.Lock()
			defer mu.Unlock()
			took, err = append(took, own...), errors.Join(err, failed)
		})
	}
	all.Wait()
	return took, err
}

// listen opens a stream and returns when the hub has begun it. take is called with the data of each event after that,
// until the load is closed.
func (l *load) listen(ctx context.Context, name, query string, take func(data []byte)) error {
	req, err := http.NewRequestWithContext(l.ctx, http.MethodGet, l.server.url("/v1/groups/", l.group+"/"+name)+query, nil)
	if err != nil {
		return err
	}
	if err := l.server.authorize(req); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, l.cancel)
	defer stop()
	res, err := l.server.client.Do(req)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close() //nolint:errcheck // the answer is an error anyway
		return remote.NewRefusal(res.StatusCode, res.Header, nil)
	}
	lines := bufio.NewReader(res.Body)
	if err := eachData(lines, func([]byte) bool { return false }); err != nil { // the session event
		_ = res.Body.Close() // the stream has failed
		return err
	}
	l.listening.Go(func() {
		defer res.Body.Close() //nolint:errcheck // it is read until it fails
		_ = eachData(lines, func(data []byte) bool { take(data); return true })
	})
	return nil
}

// eachData calls f with each data line until it returns false. Of a long line, it passes the beginning.
func eachData(r *bufio.Reader, f func([]byte) bool) error {
	for begins := true; ; {
		line, err := r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok && begins && !f(data) {
			return nil
		}
		begins = err == nil
	}
}

// warmUp makes the hub allocate what it needs for the first requests.
func (l *load) warmUp(ctx context.Context, _ *benchFigures) error {
	for range benchWarmUp {
		if err := l.post(ctx, "warm", l.text()); err != nil {
			return err
		}
	}
	return l.listenAll(ctx, min(benchWarmUp, l.bench.Listeners), "warm", func([]byte) {})
}

// open opens the listeners, and measures what the memory of the hub's process grows by.
func (l *load) open(ctx context.Context, f *benchFigures) error {
	const memory = "process_resident_memory_bytes"
	settled := func() float64 {
		select {
		case <-time.After(benchSettle):
		case <-ctx.Done():
		}
		return l.metrics(ctx)[memory]
	}
	before := settled()
	if err := l.listenAll(ctx, l.bench.Listeners, "all", func([]byte) { l.received.Add(1) }); err != nil {
		return fmt.Errorf("%w; --listeners opens fewer", err)
	}
	f.ListenerBytes = max(0, settled()-before) / float64(l.bench.Listeners)
	return ctx.Err()
}

func (l *load) listenAll(ctx context.Context, n int, name string, take func([]byte)) error {
	var opened sync.WaitGroup
	var next atomic.Int64
	errs := make(chan error, benchOpening)
	for range benchOpening {
		opened.Go(func() {
			for next.Add(1) <= int64(n) {
				if err := l.listen(ctx, name, "", take); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	opened.Wait()
	close(errs)
	return <-errs
}

// publish measures POSTs, and what the messages take in memory.
func (l *load) publish(ctx context.Context, f *benchFigures) error {
	before, begun := l.metrics(ctx), time.Now()
	took, err := l.postFor(ctx, benchPublishers, publishGroup)
	if err != nil {
		return err
	}
	f.Published = float64(len(took)) / time.Since(begun).Seconds()
	f.PublishMedian, f.PublishSlow = percentiles(took)
	after := l.metrics(ctx)
	const memory, held = "watchbox_history_memory_bytes", "watchbox_messages_held"
	if messages := after[held] - before[held]; f.Store != "disk" && messages >= 1000 {
		f.MessageBytes = max(0, after[memory]-before[memory]) / messages
	}
	return nil
}

// deliver measures how many messages all listeners of one group receive.
func (l *load) deliver(ctx context.Context, f *benchFigures) error {
	before, begun := l.received.Load(), time.Now()
	_, err := l.postFor(ctx, benchFanOut, func(int) string { return "all" })
	f.Delivered = float64(l.received.Load()-before) / time.Since(begun).Seconds()
	return err
}

// deliverSingly measures the time from before a POST until a listener has the message, without other load.
func (l *load) deliverSingly(ctx context.Context, f *benchFigures) error {
	took := make(chan time.Duration, mostTime/benchPause+1)
	if err := l.listen(ctx, "single", "?format=raw", func(data []byte) {
		if sent, _, ok := bytes.Cut(data, []byte(" ")); ok {
			if ns, err := strconv.ParseInt(string(sent), 10, 64); err == nil {
				took <- time.Since(l.begun) - time.Duration(ns)
			}
		}
	}); err != nil {
		return err
	}
	tick := time.NewTicker(benchPause)
	defer tick.Stop()
	var all []time.Duration
	for end := time.Now().Add(l.bench.Time); time.Now().Before(end); {
		text := l.text()
		copy(text, fmt.Sprintf("%d ", time.Since(l.begun).Nanoseconds()))
		if err := l.post(ctx, "single", text); err != nil {
			return err
		}
		select {
		case d := <-took:
			all = append(all, d)
		case <-time.After(answerTimeout):
			return errors.New("a message does not arrive")
		}
		<-tick.C
	}
	f.DeliveryMedian, f.DeliverySlow = percentiles(all)
	return nil
}

// percentiles returns the median and the 99th percentile in seconds.
func percentiles(all []time.Duration) (median, slow float64) {
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2].Seconds(), all[len(all)*99/100].Seconds()
}

// metrics returns the metrics of the hub, or nothing if it does not allow that.
func (l *load) metrics(ctx context.Context) map[string]float64 {
	all := map[string]float64{}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.server.URL.base()+"/metrics", nil)
	if err != nil || l.server.authorize(req) != nil {
		return nil
	}
	res, err := l.server.client.Do(req)
	if err != nil {
		return nil
	}
	defer res.Body.Close() //nolint:errcheck // it is read to its end
	for lines := bufio.NewScanner(res.Body); res.StatusCode == http.StatusOK && lines.Scan(); {
		if name, value, ok := bytes.Cut(lines.Bytes(), []byte(" ")); ok {
			if n, err := strconv.ParseFloat(string(value), 64); err == nil {
				all[string(name)] = n
			}
		}
	}
	return all
}
