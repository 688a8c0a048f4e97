package jetstream

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// TestAStreamIsAnotherOneOnlyIfItsLeaderIsNotLate has a consumer that is made again after message 10.
func TestAStreamIsAnotherOneOnlyIfItsLeaderIsNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		created := time.Now()
		a := newTail(nil)
		a.created, a.at = created, 10
		leader, sameEpoch := "a", true
		wants := func(created time.Time, end uint64, known bool, want error) {
			t.Helper()
			got, err := a.knows(&jetstream.StreamInfo{
				Created: created, State: jetstream.StreamState{LastSeq: end}, Cluster: &jetstream.ClusterInfo{Leader: leader},
			}, sameEpoch)
			if got != known || !errors.Is(err, want) {
				t.Errorf("a stream that ends at %d is known: %v, %v", end, got, err)
			}
		}
		wants(created, 10, true, nil)
		for range 2 {
			wants(created, 9, false, errShort)
			time.Sleep(leaderLate - 1)
			wants(created, 9, false, errShort)
			wants(created, 11, true, nil) // the leader was late
		}
		wants(created, 9, false, errShort)
		time.Sleep(leaderLate)
		leader = "b"
		wants(created, 9, false, errShort) // it was elected just now
		time.Sleep(leaderLate)
		wants(created, 9, false, nil) // it is an older backup
		wants(created, 10, true, nil)
		wants(created.Add(1), 20, false, errShort)
		time.Sleep(leaderLate)
		wants(created.Add(1), 20, false, nil) // it was made anew
		wants(created, 10, true, nil)
		sameEpoch = false
		wants(created, 20, false, errShort)
		time.Sleep(leaderLate)
		wants(created, 20, false, nil) // it is a backup of another epoch
	})
}
