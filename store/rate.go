package store

import "math"

// Rate is how many messages a second there are, averaged over about ten seconds: older messages
// weigh exponentially less. A group that is younger than that is averaged over its age.
type Rate struct {
	begun int64   // ms
	old   float64 // messages before time, faded up to it
	fresh int     // messages since
	time  int64   // ms
}

const (
	rateWindow = 10_000 // the time that a rate is averaged over, in ms
	rateStep   = 1000   // messages within such a time count as simultaneous; also the shortest average
)

// NewRate returns the rate of a group that has no message yet. Times are in ms.
func NewRate(now int64) Rate { return Rate{begun: now, time: now} }

// Count counts a message.
func (r *Rate) Count(now int64) {
	if now-r.time >= rateStep {
		r.old, r.fresh, r.time = r.weight(now), 0, now
	}
	r.fresh++
}

// At returns messages a second, to three decimals.
func (r *Rate) At(now int64) float64 {
	age := float64(max(now-r.begun, rateStep))
	seconds := rateWindow / 1000 * (1 - math.Exp(-age/rateWindow)) // the weight of one message a second over that age
	return math.Round(r.weight(now)/seconds*1000) / 1000
}

// weight returns how many messages there were, each faded by its age.
func (r *Rate) weight(now int64) float64 {
	return (r.old + float64(r.fresh)) * math.Exp(float64(min(r.time-now, 0))/rateWindow) // the clock may go back
}
