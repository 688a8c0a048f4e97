package duration

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Format formats a duration in the short form that Parse reads: 15s, 24h, 7d or 520w. Duration.String would
// return 87360h0m0s for the last.
func Format(d time.Duration) string {
	switch {
	case d != 0 && d%Week == 0:
		return strconv.FormatInt(int64(d/Week), 10) + "w"
	case d != 0 && d != Day && d%Day == 0:
		return strconv.FormatInt(int64(d/Day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Range is the range of durations that a setting may have.
type Range struct{ Least, Most time.Duration }

// String returns the range as text: "from 100ms to 1h".
func (r Range) String() string { return "from " + Format(r.Least) + " to " + Format(r.Most) }

// Check returns an error if a duration is not in the range.
func (r Range) Check(d time.Duration) error {
	if d < r.Least || d > r.Most {
		return fmt.Errorf("%s is not %v", Format(d), r)
	}
	return nil
}

// Parse parses a duration and checks that it is in the range.
func (r Range) Parse(s string) (time.Duration, error) {
	d, err := Parse(s)
	if err != nil {
		return 0, fmt.Errorf("%.64q is not a duration such as 15s, 2h30m or 7d", s)
	}
	if err := r.Check(d); err != nil {
		return 0, err
	}
	return d, nil
}
