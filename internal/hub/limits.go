package hub

import (
	"math"
	"time"

	"github.com/watchbox-go/watchbox/internal/duration"
	"github.com/watchbox-go/watchbox/store"
)

// The durations that settings and requests may ask for. They are never changed.
var (
	Heartbeats = duration.Range{Least: 100 * time.Millisecond, Most: time.Hour}
	TTLs       = duration.Range{Least: time.Millisecond, Most: store.Ages.Most}
	WillDelays = duration.Range{Most: 24 * time.Hour}
)

// AtOnce is the TTL of a message that has expired when it is published: nobody gets it. Only MQTT clients can ask for it.
const AtOnce time.Duration = math.MinInt64

// expiry returns when a message with a TTL expires; zero: never.
func expiry(ttl time.Duration, now time.Time) time.Time {
	switch {
	case ttl == AtOnce:
		return now
	case ttl > 0:
		return now.Add(ttl)
	}
	return time.Time{}
}

// parseDuration reads a member of a JSON object that is a duration.
func parseDuration(member, s string, limits duration.Range) (time.Duration, error) {
	d, err := limits.Parse(s)
	if err != nil {
		return 0, &BodyError{member + ": " + err.Error()}
	}
	return d, nil
}
