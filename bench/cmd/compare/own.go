package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// payload is as long as the load generator's.
var payload = bytes.Repeat([]byte("x"), 128)

// own are figures of the hub alone, for features that the other servers do not have.
var own = []struct {
	name, what, target string
	measure            func(base string, dur time.Duration) (value float64, also string, err error)
}{
	{"ndjson", "4 publishers, 1,000 JSON strings of 128 bytes in a POST: messages/s", "≥ 500,000", batches},
	{"raw", "format=raw: bytes on the wire above a payload of 128 bytes", "≤ 30", overhead("?format=raw")},
	{"json", "the same as JSON", "", overhead("")},
}

// batches publishes ndjson from four connections, each as fast as it gets answers.
func batches(base string, dur time.Duration) (float64, string, error) {
	const size = 1000
	body := bytes.Repeat(append(append([]byte{'"'}, payload...), '"', '\n'), size)
	var failed error
	var mu sync.Mutex
	var all sync.WaitGroup
	sent := 0
	end := time.Now().Add(dur)
	for n := range 4 {
		all.Go(func() {
			own, err := 0, error(nil)
			for err == nil && time.Now().Before(end) {
				if err = post(fmt.Sprintf("%s/v1/groups/batch/%d", base, n), "application/x-ndjson", body); err == nil {
					own += size
				}
			}
			mu.Lock()
			defer mu.Unlock()
			sent += own
			if err != nil {
				failed = err
			}
		})
	}
	all.Wait()
	return float64(sent) / dur.Seconds(), "", failed
}

// overhead counts the bytes that a stream adds to the payload of a thousand messages.
func overhead(query string) func(string, time.Duration) (float64, string, error) {
	return func(base string, _ time.Duration) (float64, string, error) {
		const messages = 1000
		res, err := http.Get(base + "/v1/groups/overhead" + query)
		if err != nil {
			return 0, "", err
		}
		defer func() { _ = res.Body.Close() }()
		stream := bufio.NewReader(res.Body)
		for blank := 0; blank < 2; { // retry, and the session event
			line, err := stream.ReadBytes('\n')
			if err != nil {
				return 0, "", err
			}
			if len(line) == 1 {
				blank++
			}
		}
		body := bytes.Repeat(append(append([]byte{'"'}, payload...), '"', '\n'), messages)
		if err := post(base+"/v1/groups/overhead", "application/x-ndjson", body); err != nil {
			return 0, "", err
		}
		bytesRead, frame := 0, ""
		for got := 0; got < messages; {
			line, err := stream.ReadBytes('\n')
			if err != nil {
				return 0, "", err
			}
			bytesRead += len(line)
			if frame += string(line); len(line) == 1 {
				if got++; got < messages {
					frame = ""
				}
			}
		}
		return float64(bytesRead)/messages - float64(len(payload)), fmt.Sprintf("the last is %d bytes", len(frame)), nil
	}
}

func post(url, kind string, body []byte) error {
	res, err := http.Post(url, kind, bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err == nil && res.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s", res.Status, answer)
	}
	return err
}
