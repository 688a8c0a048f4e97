package jetstream

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestALeaderThatHasLostTheOthersIsNotBack(t *testing.T) {
	here, silent := &jetstream.PeerInfo{Active: time.Second}, &jetstream.PeerInfo{Active: time.Minute}
	offline, mute := &jetstream.PeerInfo{Offline: true}, &jetstream.PeerInfo{}
	for _, c := range []struct {
		info *jetstream.ClusterInfo
		want bool
	}{
		{nil, true},
		{&jetstream.ClusterInfo{}, false},
		{&jetstream.ClusterInfo{Leader: "a"}, true},
		{&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{here, silent}}, true},
		{&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{offline, silent}}, false},
		{&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{here, mute}}, true},
		{&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{silent, mute}}, false},
		{&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{here, silent, mute, mute}}, false},
		{&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{mute, mute}}, true}, // they are being added
		{&jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{here, here}}, false},             // a server answers that does not lead
		{&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{here, silent, silent, offline}}, false},
		{&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{here, here, silent, offline}}, true},
	} {
		if got := hasMajority(c.info); got != c.want {
			t.Errorf("%+v: %v, want %v", c.info, got, c.want)
		}
	}
}
