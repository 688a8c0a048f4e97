//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/watchbox-go/watchbox/test/cluster/hubs"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// startHub starts a hub with flags, and returns when it is ready.
func startHub(dir string, flags ...string) (*hubs.Hub, error) {
	name := "hub" + strconv.FormatInt(time.Now().UnixNano(), 36)
	h, err := hubs.Start(filepath.Join(dir, "watchbox"), dir, name, append([]string{"--log-level", "error"}, flags...)...)
	if err != nil {
		return nil, err
	}
	if err := h.Ready(); err != nil {
		h.Kill()
		return nil, err
	}
	return h, nil
}

// cluster is three NATS servers with three hubs.
type cluster struct {
	servers servers.Servers
	hubs    []*hubs.Hub
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
