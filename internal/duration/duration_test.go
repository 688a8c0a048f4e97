package duration

import (
	"math"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"0": 0, "15s": 15 * time.Second, "2h45m": 2*time.Hour + 45*time.Minute, "-1m": -time.Minute, "300ms": 300 * time.Millisecond,
		"1d": Day, "7d": Week, "1w": Week, "1w2d3h4m5s6ms": Week + 2*Day + 3*time.Hour + 4*time.Minute + 5*time.Second + 6*time.Millisecond,
		"1.5d": 36 * time.Hour, ".5w": 84 * time.Hour, "+1d": Day, "-1d12h": -36 * time.Hour, "0d": 0, "12h1d": 36 * time.Hour,
		"1d1us1ns": Day + time.Microsecond + 1, "106751d": 106751 * Day,
	} {
		if got, err := Parse(s); err != nil || got != want {
			t.Errorf("Parse(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "d", "w", "1", "1x", "1dd", "1 d", "d1", "1D", "--1d", "1d-1h", "-", "+", "1.1.1d", "1d.", "106752d", "15251w", "1d9223372036854775807ns",
		"99999999999999999999d", "1day", "1week", "one day", "yesterday", "1d\n",
	} {
		if got, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", s, got)
		}
	}
}

// FuzzParse compares Parse with time.ParseDuration where both know the units.
func FuzzParse(f *testing.F) {
	f.Add("1h2m3.5s")
	f.Add("2d")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Parse(s)
		if want, wantErr := time.ParseDuration(s); wantErr == nil && (err != nil || got != want) {
			t.Errorf("Parse(%q) = %v, %v, want %v", s, got, err, want)
		}
		if err != nil || got == math.MinInt64 {
			return
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%q is %v, which reads as %v, %v", s, got, again, err)
		}
	})
}
