//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/internal/freeport"
	"github.com/watchbox-go/watchbox/test/cluster/process"
)

// server is a hub or mosquitto.
type server struct {
	*process.Process
	addr string
	api  string // URL of a hub
}

// broker starts a server whose files are in a folder. onDisk says that each message is on the disk before it is acknowledged,
// which mosquitto cannot do: then it keeps its log in memory as otherwise.
type broker struct {
	name  string
	start func(dir string, onDisk bool) (*server, error)
}

var brokers = []broker{{"watchbox", startHub}, {"mosquitto", startMosquitto}}

func startHub(dir string, onDisk bool) (*server, error) {
	listen, err := freeport.Find()
	if err != nil {
		return nil, err
	}
	addr, err := freeport.Find()
	if err != nil {
		return nil, err
	}
	args := []string{"serve", "--listen", listen, "--mqtt", addr, "--log-level", "error"}
	if onDisk {
		data, err := os.MkdirTemp(dir, "data")
		if err != nil {
			return nil, err
		}
		args = append(args, "--data-dir", data)
	}
	p, err := process.Start(filepath.Join(dir, "watchbox.log"), filepath.Join(dir, "watchbox"), args...)
	if err != nil {
		return nil, err
	}
	s, err := ready(p, addr)
	if err == nil {
		s.api = "http://" + listen
	}
	return s, err
}

func startMosquitto(dir string, _ bool) (*server, error) {
	addr, err := freeport.Find()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	// Its defaults drop what a slow client has not acknowledged.
	conf := "listener " + port + " 127.0.0.1\nallow_anonymous true\nuser root\nlog_type error\n" +
		"max_inflight_messages 0\nmax_queued_messages 0\n"
	file := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	p, err := process.Start(filepath.Join(dir, "mosquitto.log"), "mosquitto", "-c", file)
	if err != nil {
		return nil, err
	}
	return ready(p, addr)
}

// ready returns when the process accepts connections.
func ready(p *process.Process, addr string) (*server, error) {
	for deadline := time.After(time.Minute); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return &server{Process: p, addr: addr}, c.Close()
		}
		select {
		case <-p.Done():
			return nil, errors.New("the server has ended")
		case <-deadline:
			p.Kill()
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// forgetPresence has a hub keep presence messages for a second only.
func (s *server) forgetPresence() error {
	if s.api == "" {
		return nil
	}
	r, err := http.NewRequest(http.MethodPut, s.api+"/v1/policies/$presence/%23", strings.NewReader(`{"max_age":"1s"}`))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the hub answers %s", answer.Status)
	}
	return nil
}

// cpu is the time of all its threads, in steps of 10 ms.
func (s *server) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Pid()))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// memory is its resident memory in bytes.
func (s *server) memory() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Pid()))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	kb, _ := strconv.Atoi(fields[slices.Index(fields, "VmRSS:")+1])
	return kb << 10
}
