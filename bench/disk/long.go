package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	batchSize  = 1000
	publishers = 4
	shortLog   = 1_000_000 // messages; a hub in memory can hold as many
)

// long fills a hub in little memory with many messages, kills it, starts it again and reads all.
// Then it compares how fast a hub on disk and one in memory replay the same shorter log.
func long(s settings) error {
	dir := filepath.Join(s.dir, "long")
	h, err := s.start("--data-dir", dir, "--max-memory", s.memory)
	if err != nil {
		return err
	}
	took, err := s.fill(s.messages)
	if err != nil {
		h.kill()
		return err
	}
	fmt.Printf("%d messages of %d bytes, %d in a POST, %d publishers, --max-memory %s\n\n", s.messages, s.size, batchSize, publishers, s.memory)
	fmt.Printf("| | |\n| --- | --- |\n")
	fmt.Printf("| written in | %.0f s: %.0f messages/s, durable |\n", took.Seconds(), float64(s.messages)/took.Seconds())
	fmt.Printf("| memory of the process, at most | %.0f MiB |\n", mib(h.memory("VmHWM")))
	h.kill()
	fmt.Printf("| on disk | %d bytes a message |\n", sizeOf(dir)/int64(s.messages))
	if h, err = s.start("--data-dir", dir, "--max-memory", s.memory); err != nil {
		return err
	}
	fmt.Printf("| started after kill -9 in | %.2f s |\n", h.began.Seconds())
	rate, err := replay(s.messages)
	fmt.Printf("| all read over one stream | %.0f messages/s |\n", rate)
	fmt.Printf("| memory of the process meanwhile, at most | %.0f MiB |\n", mib(h.memory("VmHWM")))
	if err := errors.Join(err, h.stop()); err != nil {
		return err
	}
	return s.compare()
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// compare replays the same log from both stores, one after the other.
func (s settings) compare() error {
	const rounds = 3
	var rates [2][]float64
	stores := [2][]string{{"--data-dir", filepath.Join(s.dir, "short")}, {"--max-memory", "1GiB"}}
	for i, args := range stores {
		h, err := s.start(args...)
		if err != nil {
			return err
		}
		_, err = s.fill(shortLog)
		for range rounds {
			rate, err2 := replay(shortLog)
			err = errors.Join(err, err2)
			rates[i] = append(rates[i], rate)
		}
		h.kill()
		if err != nil {
			return err
		}
	}
	disk, memory := best(rates[0]), best(rates[1])
	fmt.Printf("| replay of %d messages from disk (--max-memory 128MiB) | %.0f messages/s |\n", shortLog, disk)
	fmt.Printf("| the same from memory | %.0f messages/s: disk has %.2f of it |\n", memory, disk/memory)
	return nil
}

func best(list []float64) (b float64) {
	for _, x := range list {
		b = max(b, x)
	}
	return b
}

// fill publishes a number of different messages.
func (s settings) fill(messages int) (time.Duration, error) {
	var left atomic.Int64
	left.Store(int64(messages / batchSize))
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	began := time.Now()
	for p := range publishers {
		all.Go(func() {
			for n := 0; left.Add(-1) >= 0 && failed.Load() == nil; n++ {
				if err := post(fmt.Sprintf("long/%d", p), s.batch()); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	all.Wait()
	if p := failed.Load(); p != nil {
		return 0, *p
	}
	return time.Since(began), nil
}

// batch returns a body: lines of JSON strings, half of each random letters.
func (s settings) batch() []byte {
	const letters = "abcdefghijklmnopqrstuvwxyz012345"
	b := make([]byte, 0, batchSize*(s.size+3))
	for range batchSize {
		b = append(b, '"')
		for i := 0; i < s.size; i += 16 {
			n := rand.Uint64()
			for k := range min(16, s.size-i) {
				b = append(b, letters[n>>(k%8*5)&31])
			}
		}
		b = append(b, '"', '\n')
	}
	return b
}

func post(group string, body []byte) error {
	resp, err := http.Post("http://"+address+"/v1/groups/"+group, "application/x-ndjson", bytes.NewReader(body))
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return errors.Join(err, resp.Body.Close())
}

// replay reads a number of messages over a stream from the start of the log, and returns messages a
// second.
func replay(messages int) (float64, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET /v1/groups/long/%23?since=all HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return 0, err
	}
	began, buf, got := time.Now(), make([]byte, 1<<20), 0
	var tail []byte // end of the data read so far, in case a mark is split
	mark := []byte("\ndata: {\"id\":")
	for got < messages {
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			return 0, err
		}
		n, err := c.Read(buf[len(tail):])
		if err != nil {
			return 0, fmt.Errorf("after %d messages: %w", got, err)
		}
		b := buf[:len(tail)+n]
		got += bytes.Count(b, mark)
		keep := min(len(b), len(mark)-1)
		tail = b[len(b)-keep:]
		copy(buf, tail)
		tail = buf[:keep]
	}
	return float64(messages) / time.Since(began).Seconds(), nil
}
