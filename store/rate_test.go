package store

import "testing"

// A new group's rate is that of the messages seen so far, not a fraction of it that rises for ten seconds.
func TestRateOfASteadyGroupIsRightFromTheStart(t *testing.T) {
	const perSecond = 20
	r := NewRate(5000)
	for now := int64(0); now < 60_000; now += 1000 / perSecond {
		r.Count(5000 + now)
		if got := r.At(5000 + now); now >= 1000 && (got < 0.85*perSecond || got > 1.15*perSecond) {
			t.Fatalf("after %d ms the rate is %v messages a second, want about %d", now, got, perSecond)
		}
	}
}

func TestRateFadesWhenMessagesStop(t *testing.T) {
	r := NewRate(0)
	for now := int64(0); now < 20_000; now += 100 {
		r.Count(now)
	}
	before := r.At(20_000)
	for _, now := range []int64{25_000, 40_000, 120_000} {
		got := r.At(now)
		if got >= before {
			t.Errorf("at %d ms the rate is %v, and before it was %v", now, got, before)
		}
		before = got
	}
	if before > 0.001 {
		t.Errorf("100 s after the last message the rate is %v", before)
	}
}

// The first second counts as a whole one, so that one message is not a rate of thousands.
func TestRateOfASingleMessage(t *testing.T) {
	r := NewRate(0)
	r.Count(0)
	if got := r.At(1); got < 0.9 || got > 1.1 {
		t.Errorf("one message in a millisecond is %v a second, want about 1", got)
	}
}

func TestRateSurvivesAClockThatGoesBack(t *testing.T) {
	r := NewRate(1e10)
	r.Count(1e10)
	r.Count(5000)
	if got := r.At(5000); got <= 0 || got > 10 {
		t.Errorf("the rate is %v", got)
	}
}
