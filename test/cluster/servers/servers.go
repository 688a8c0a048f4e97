//go:build !windows

// Package servers runs nats-server processes with JetStream, alone or as a cluster.
package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/internal/freeport"
	"github.com/watchbox-go/watchbox/test/cluster/process"
)

// Servers are all servers of a cluster, or one that is alone.
type Servers []*Server

// Server is one nats-server. It keeps its address and its folder when it is started again.
type Server struct {
	*process.Process
	Name string // n1, n2, …
	URL  string // for clients

	dir     string // holds its configuration, its log and the files of JetStream
	monitor string // base of the URLs for monitoring
	program string
}

// Start runs n servers with JetStream, which sync each write, and returns when they have found a leader. Their files
// are in dir, and settings, in which {dir} is the folder of the server, are added to their configuration. It needs the go command, which builds nats-server in the
// version of this module and caches it, and a current directory in this module.
func Start(dir string, n int, settings ...string) (Servers, error) {
	program, err := build()
	if err != nil {
		return nil, err
	}
	var all Servers
	var routes []string
	for i := range n {
		s := &Server{Name: fmt.Sprintf("n%d", i+1), program: program}
		s.dir = filepath.Join(dir, s.Name)
		route, err := s.configure()
		if err != nil {
			return nil, err
		}
		all, routes = append(all, s), append(routes, "nats://"+route)
	}
	for i, s := range all {
		config := fmt.Sprintf(configuration, s.Name, strings.TrimPrefix(s.URL, "nats://"), strings.TrimPrefix(s.monitor, "http://"), s.dir)
		if n > 1 {
			config += fmt.Sprintf(clustering, strings.TrimPrefix(routes[i], "nats://"), strings.Join(routes, ", "))
		}
		config += strings.ReplaceAll(strings.Join(settings, "\n"), "{dir}", s.dir)
		if err := os.WriteFile(s.config(), []byte(config), 0o600); err != nil {
			return nil, err
		}
	}
	for _, s := range all {
		if err := s.run(); err != nil {
			all.Kill()
			return nil, err
		}
	}
	if err := all.Ready(); err != nil {
		all.Kill()
		return nil, err
	}
	return all, nil
}

const (
	configuration = `server_name: %s
listen: %q
http: %q
max_payload: 8MB
jetstream { store_dir: %q, sync_interval: always }
`
	clustering = `cluster { name: watchbox, listen: %q, routes: [%s] }
`
)

// TempDir makes a folder for servers. It is in memory if the system has a file system for that, so that nobody waits for
// a disk: a process that is killed loses nothing of it. The caller removes it.
func TempDir() (string, error) {
	const memory = "/dev/shm"
	if dir, err := os.MkdirTemp(memory, "nats-"); err == nil {
		return dir, nil
	}
	return os.MkdirTemp("", "nats-")
}

// build returns the path of the program nats-server.
func build() (string, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("go", "tool", "-n", "nats-server")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build nats-server: %w: %s", err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

// configure makes the server's folder and chooses its addresses. It returns the one for the other servers.
func (s *Server) configure() (route string, err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return "", err
	}
	var addresses [3]string
	for i := range addresses {
		if addresses[i], err = freeport.Find(); err != nil {
			return "", err
		}
	}
	s.URL, s.monitor = "nats://"+addresses[0], "http://"+addresses[1]
	return addresses[2], nil
}

// Data returns the folder with the files of JetStream.
func (s *Server) Data() string { return filepath.Join(s.dir, "jetstream") }

func (s *Server) config() string { return filepath.Join(s.dir, "nats.conf") }

func (s *Server) run() (err error) {
	s.Process, err = process.Start(s.logFile(), s.program, "-c", s.config())
	return err
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

// Log returns what the server has logged, or why that cannot be read.
func (s *Server) Log() string {
	log, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(log)
}

// Restart starts a server that has ended, on the same folder and address, and returns when it is ready.
func (s *Server) Restart() error {
	<-s.Done()
	if err := s.run(); err != nil {
		return err
	}
	return s.Ready()
}

// Ready returns when JetStream of the server can be used: it knows a leader and has caught up with it.
func (s *Server) Ready() error {
	if err := s.Process.Ready(s.monitor + "/healthz"); err != nil {
		return fmt.Errorf("%s: %w: %s", s.Name, err, s.Log())
	}
	return nil
}

// URL returns the addresses of all servers, separated by commas.
func (all Servers) URL() string {
	urls := make([]string, len(all))
	for i, s := range all {
		urls[i] = s.URL
	}
	return strings.Join(urls, ",")
}

// Ready returns when all servers are ready.
func (all Servers) Ready() error {
	for _, s := range all {
		if err := s.Ready(); err != nil {
			return err
		}
	}
	return nil
}

// Connect returns access to the streams until done is called.
func (all Servers) Connect(o ...nats.Option) (js jetstream.JetStream, done func(), err error) {
	nc, err := nats.Connect(all.URL(), o...)
	if err != nil {
		return nil, nil, err
	}
	if js, err = jetstream.New(nc); err != nil {
		nc.Close()
		return nil, nil, err
	}
	return js, nc.Close, nil
}

// Leader returns the server that leads a stream, once one does.
func (all Servers) Leader(ctx context.Context, stream string) (*Server, error) {
	js, done, err := all.Connect()
	if err != nil {
		return nil, err
	}
	defer done()
	for {
		leader, err := all.leader(ctx, js, stream)
		if leader != nil || err != nil {
			return leader, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no server leads %s: %w", stream, ctx.Err())
		case <-time.After(20 * time.Millisecond): // it can only be asked
		}
	}
}

// leader returns nil if the servers do not know a leader now.
func (all Servers) leader(ctx context.Context, js jetstream.JetStream, stream string) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, err
	}
	if err != nil {
		return nil, nil
	}
	cluster := s.CachedInfo().Cluster
	for _, server := range all {
		if cluster != nil && server.Name == cluster.Leader || len(all) == 1 {
			return server, nil
		}
	}
	return nil, nil
}

// Restart starts all servers, which have ended, and returns when they are ready.
func (all Servers) Restart() error {
	for _, s := range all {
		<-s.Done()
		if err := s.run(); err != nil {
			return err
		}
	}
	return all.Ready()
}

// Kill ends all servers at once.
func (all Servers) Kill() {
	for _, s := range all {
		if s.Process != nil {
			s.Process.Kill()
		}
	}
}
