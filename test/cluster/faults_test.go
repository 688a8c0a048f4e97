//go:build !windows

package cluster

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/test/cluster/hubs"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// nodeTimeout is longer than the hubs wait for a sign of life of another one.
const nodeTimeout = 8 * time.Second

// system is a cluster in which things fail.
type system struct {
	servers servers.Servers
	hubs    []*hubs.Hub
}

// faults are what may happen in a round. A rare one takes many seconds.
var faults = []struct {
	name string
	rare bool
	do   func(s *system, r *round) error
}{
	{"nothing fails", false, func(*system, *round) error { return nil }},
	{"a hub is killed", false, func(s *system, r *round) error {
		h := s.aHub(r)
		h.Kill()
		return h.Restart()
	}},
	{"a hub is stopped", false, func(s *system, r *round) error {
		h := s.aHub(r)
		if err := h.Stop(); err != nil {
			return err
		}
		return h.Restart()
	}},
	{"all hubs are killed", false, func(s *system, r *round) error { return s.killHubs() }},
	{"a group is purged", false, func(s *system, r *round) error {
		_, err := call(r.client, http.MethodDelete, s.aHub(r), "/v1/groups/"+r.name+"/a", "", "")
		r.purged(r.name + "/a")
		return err
	}},
	{"a group is purged by hand", false, func(s *system, r *round) error {
		err := s.purge(r.name + "/a")
		r.purged("") // a hub does not know what somebody else removed
		return err
	}},
	{"a hub is paused", true, func(s *system, r *round) error {
		h := s.aHub(r)
		h.Pause()
		<-time.After(nodeTimeout)
		h.Continue()
		return nil
	}},
	{"the leader of the stream is killed", true, func(s *system, r *round) error {
		leader, err := s.leader()
		if err != nil {
			return err
		}
		leader.Kill()
		if _, err := s.leader(); err != nil {
			return err
		}
		return leader.Restart()
	}},
	{"all hubs and servers are killed", true, func(s *system, r *round) error {
		s.servers.Kill()
		if err := s.servers.Restart(); err != nil {
			return err
		}
		return s.killHubs()
	}},
	{"all servers are restarted one by one", true, func(s *system, r *round) error {
		for _, server := range s.servers {
			if err := server.Stop(); err != nil {
				return err
			}
			if err := server.Restart(); err != nil {
				return err
			}
			if _, err := s.leader(); err != nil {
				return err
			}
		}
		return nil
	}},
}

// killHubs kills all hubs at once, and starts them again.
func (s *system) killHubs() error {
	for _, h := range s.hubs {
		h.Kill()
	}
	for _, h := range s.hubs {
		if err := h.Restart(); err != nil {
			return err
		}
	}
	return nil
}

func (s *system) aHub(r *round) *hubs.Hub { return s.hubs[r.rand.IntN(len(s.hubs))] }

// leader returns the server that leads the stream, once one does.
func (s *system) leader() (*servers.Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.servers.Leader(ctx, "WATCHBOX")
}

// purge removes a group's messages without the hubs.
func (s *system) purge(group string) error {
	js, done, err := s.servers.Connect()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := js.Stream(ctx, "WATCHBOX")
	if err != nil {
		return err
	}
	return stream.Purge(ctx, jetstream.WithPurgeSubject("wb.WATCHBOX.m."+strings.ReplaceAll(group, "/", ".")))
}

// scale multiplies the number of rounds.
func scale(t *testing.T) int {
	text := os.Getenv("WATCHBOX_TEST_SCALE")
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal("WATCHBOX_TEST_SCALE:", err)
	}
	return n
}

// newSystem runs three hubs on three servers.
func newSystem(t *testing.T, more ...string) *system {
	s := &system{servers: servers.ForTest(t, 3)}
	s.hubs = hubs.ForTest(t, program, 3, settings(append(more, "--nats", s.servers.URL())...)...)
	return s
}

func TestSessionsOfSeveralHubs(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	t.Run("a session flaps between two hubs", func(t *testing.T) { testFlapping(t, s) })
	t.Run("the hub of 2,000 sessions is killed", func(t *testing.T) { testCrowd(t, s) })
}

// TestHubsKeepTheirPromisesWhileThingsFail plays each fault once, the quick ones more often.
func TestHubsKeepTheirPromisesWhileThingsFail(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	for n := range scale(t) {
		for i, f := range faults {
			times := 3
			if f.rare {
				times = 1
			}
			for k := range times {
				seed := uint64(n*100 + k*10 + i)
				t.Run(fmt.Sprintf("%s %d", f.name, seed), func(t *testing.T) {
					play(t, fmt.Sprint("r", seed), seed, s.hubs, 0, func(r *round) { r.failed(f.do(s, r)) })
				})
			}
		}
	}
}

// TestHubsReadFromTheStreamWhatTheyHaveNoRoomFor plays the quick faults with more bytes than the hubs have memory for. The
// listener that is late reads them all.
func TestHubsReadFromTheStreamWhatTheyHaveNoRoomFor(t *testing.T) {
	t.Parallel()
	const memory = 1 << 20
	s := newSystem(t, "--max-memory", strconv.Itoa(memory))
	for n := range scale(t) {
		for i, f := range faults {
			if f.rare {
				continue
			}
			seed := uint64(1000 + n*100 + i)
			t.Run(fmt.Sprintf("%s %d", f.name, seed), func(t *testing.T) {
				play(t, fmt.Sprint("r", seed), seed, s.hubs, memory/leastPosts, func(r *round) { r.failed(f.do(s, r)) })
			})
		}
	}
}
