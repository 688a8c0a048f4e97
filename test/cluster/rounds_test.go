//go:build !windows

package cluster

import (
	"fmt"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/watchbox-go/watchbox/internal/leak"
	"github.com/watchbox-go/watchbox/test/cluster/hubs"
)

// program is watchbox.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "cluster-")
	if err != nil {
		panic(err)
	}
	if program, err = hubs.Build(dir); err != nil {
		panic(err)
	}
	code := leak.Run(m, goleak.IgnoreTopFunction("github.com/watchbox-go/watchbox/test/cluster/process.starting"))
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// TestOneHub plays rounds with a hub that shares its log with nobody: the clients and the judge are the same.
func TestOneHub(t *testing.T) {
	purge := func(r *round) {
		_, err := call(r.client, http.MethodDelete, r.hubs[0], "/v1/groups/"+r.name+"/a", "", "")
		r.failed(err)
		r.purged(r.name + "/a")
	}
	kill := func(r *round) {
		r.crashed = true
		r.hubs[0].Kill()
		r.failed(r.hubs[0].Restart())
	}
	memory := hubs.ForTest(t, program, 1, settings()...)
	disk := hubs.ForTest(t, program, 1, settings("--data-dir", t.TempDir())...)
	for i, c := range []struct {
		name  string
		hubs  []*hubs.Hub
		fault func(*round)
	}{
		{"in memory", memory, func(*round) {}},
		{"in memory, a group is purged", memory, purge},
		{"on disk, a group is purged", disk, purge},
		{"on disk, killed", disk, kill},
	} {
		t.Run(c.name, func(t *testing.T) { play(t, fmt.Sprint("r", i), uint64(i), c.hubs, 0, c.fault) })
	}
}

func settings(more ...string) []string {
	return append([]string{"--heartbeat", heartbeat.String(), "--session-timeout", sessionTimeout.String(), "--retry", "50ms"}, more...)
}
