package client_test

import (
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/client"
)

// The hub ends a stream in the last twentieth of its token's lifetime, at most 30 s before the expiry.
func TestATokenIsRenewedBeforeTheHubEndsTheStream(t *testing.T) {
	for _, life := range []time.Duration{10 * time.Second, time.Minute, 10 * time.Minute, time.Hour, 24 * time.Hour, 365 * 24 * time.Hour} {
		for _, left := range []time.Duration{life, life / 2, life / 10, 5 * time.Minute, 61 * time.Second} {
			if left > life || left < life && left <= time.Minute { // with less than a minute left, the stream may reconnect
				continue
			}
			wait, end := client.RenewIn(left), left-min(life/20, 30*time.Second)
			if wait >= end || wait < left/2 {
				t.Errorf("life %v, %v left: renewed after %v, and the hub may end the stream after %v", life, left, wait, end)
			}
		}
	}
}
