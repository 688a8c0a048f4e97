package store

import "math"

// Rate is how many messages a second there are, fading exponentially.
type Rate struct {
	old   float64 // as of time
	fresh int     // messages since
	time  int64   // ms
}

const (
	rateWindow = 10_000 // what a rate is averaged over, in ms
	rateStep   = 1000   // messages are taken to come at once within such a time
)

// NewRate returns the rate of what has no message yet. Times are in ms.
func NewRate(now int64) Rate { return Rate{time: now} }

// Count counts a message.
func (r *Rate) Count(now int64) {
	if now-r.time >= rateStep {
		*r = Rate{old: r.at(now), time: now}
	}
	r.fresh++
}

// At returns messages a second, to three decimals.
func (r *Rate) At(now int64) float64 { return math.Round(r.at(now)*1000) / 1000 }

func (r *Rate) at(now int64) float64 {
	return (r.old + float64(r.fresh)*1000/rateWindow) * math.Exp(float64(r.time-now)/rateWindow)
}
