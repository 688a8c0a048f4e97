//go:build !windows

package servers_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/watchbox-go/watchbox/internal/leak"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

func TestMain(m *testing.M) {
	leak.Main(m, goleak.IgnoreTopFunction("github.com/watchbox-go/watchbox/test/cluster/process.starting"))
}

const patience = time.Minute

// stream connects to servers and creates the stream S with the subject s.
func stream(t *testing.T, all servers.Servers) jetstream.JetStream {
	t.Helper()
	js, done, err := all.Connect(nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: len(all)})
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// publish appends a message, as soon as a server takes it, and returns its sequence.
func publish(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	for late := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		ack, err := js.Publish(ctx, "s", nil)
		cancel()
		if err == nil {
			return ack.Sequence
		}
		if time.Now().After(late) {
			t.Fatal(err)
		}
	}
}

func TestAServerThatWasKilledContinuesItsStream(t *testing.T) {
	all := servers.ForTest(t, 1)
	js := stream(t, all)
	publish(t, js)
	all[0].Kill()
	if err := all[0].Restart(); err != nil {
		t.Fatal(err)
	}
	if seq := publish(t, js); seq != 2 {
		t.Errorf("the message after a restart has the sequence %d", seq)
	}
}

func TestAnotherServerLeadsWhenTheLeaderIsKilledOrPaused(t *testing.T) {
	all := servers.ForTest(t, 3)
	js := stream(t, all)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	leader := func() *servers.Server {
		s, err := all.Leader(ctx, "S")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := leader()
	first.Kill()
	publish(t, js)
	second := leader()
	if second == first {
		t.Errorf("%s leads the stream, but it was killed", first.Name)
	}
	if err := first.Restart(); err != nil {
		t.Fatal(err)
	}
	second.Pause()
	publish(t, js)
	for third := leader(); third == second; third = leader() {
	}
	second.Continue()
	if err := all.Ready(); err != nil {
		t.Fatal(err)
	}
}
