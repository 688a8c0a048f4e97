//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/watchbox-go/watchbox/test/cluster/process"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// hub is a running watchbox serve.
type hub struct {
	*process.Process
	url string
}

// startHub starts a hub with flags, and returns when it is ready.
func startHub(dir string, flags ...string) (*hub, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	name := filepath.Join(dir, "hub"+strconv.FormatInt(time.Now().UnixNano(), 36)+".log")
	args := append([]string{"serve", "--listen", addr, "--log-level", "error"}, flags...)
	p, err := process.Start(name, filepath.Join(dir, "watchbox"), args...)
	if err != nil {
		return nil, err
	}
	h := &hub{p, "http://" + addr}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		res, err := http.Get(h.url + "/readyz")
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return h, nil
			}
			err = errors.New(res.Status)
		}
		if time.Now().After(end) {
			h.Kill()
			return nil, fmt.Errorf("the hub is not ready: %w (see %s)", err, name)
		}
	}
}

// cluster is three NATS servers with three hubs.
type cluster struct {
	servers servers.Servers
	hubs    []*hub
	end     func() // of the servers
}

// startServers starts NATS servers with their files in a folder of dir or, if dir is "", in memory where the system has a
// file system for that. end ends them.
func startServers(dir string, n int) (s servers.Servers, end func(), err error) {
	if dir == "" {
		dir, err = servers.TempDir()
	} else {
		dir, err = os.MkdirTemp(dir, "nats")
	}
	if err != nil {
		return nil, nil, err
	}
	s, err = servers.Start(dir, n)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, nil, err
	}
	return s, func() { s.Kill(); _ = os.RemoveAll(dir) }, nil
}

func startCluster(dir string) (*cluster, error) {
	s, end, err := startServers("", 3)
	if err != nil {
		return nil, err
	}
	c := &cluster{servers: s, end: end}
	for range 3 {
		h, err := startHub(dir, "--nats", s.URL())
		if err != nil {
			c.kill()
			return nil, err
		}
		c.hubs = append(c.hubs, h)
	}
	return c, nil
}

func (c *cluster) kill() {
	for _, h := range c.hubs {
		h.Kill()
	}
	c.end()
}
