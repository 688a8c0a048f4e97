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

func TestFormat(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 15 * time.Second: "15s", 90 * time.Second: "1m30s", time.Minute: "1m", time.Hour: "1h", time.Hour + time.Second: "1h0m1s",
		90 * time.Minute: "1h30m", Day: "24h", -Day: "-1d", 2 * Day: "2d", 36 * time.Hour: "36h", Week: "1w", 520 * Week: "520w",
		time.Millisecond: "1ms", 1500 * time.Microsecond: "1.5ms", -time.Second: "-1s", -time.Hour: "-1h", 1: "1ns",
	} {
		if got := Format(d); got != want {
			t.Errorf("Format(%v) = %q, want %q", d, got, want)
		}
		if got, err := Parse(want); err != nil || got != d {
			t.Errorf("Parse(%q) = %v, %v, want %v", want, got, err, d)
		}
	}
}

func TestRange(t *testing.T) {
	r := Range{100 * time.Millisecond, 2 * Week}
	for s, want := range map[string]string{
		"100ms": "", "2w": "", "1h": "", "99ms": "99ms is not from 100ms to 2w", "1209600001ms": "336h0m0.001s is not from 100ms to 2w",
		"-1s": "-1s is not from 100ms to 2w", "1y": `"1y" is not a duration such as 15s, 2h30m or 7d`, "": `"" is not a duration such as 15s, 2h30m or 7d`,
	} {
		if _, err := r.Parse(s); (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
}

// FuzzParse compares Parse with time.ParseDuration for units that both know.
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
		for _, text := range []string{got.String(), Format(got)} {
			if again, err := Parse(text); err != nil || again != got {
				t.Errorf("%q is %s, which reads as %v, %v", s, text, again, err)
			}
		}
	})
}
