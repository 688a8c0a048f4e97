package jetstream

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

func TestConflicts(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{&jetstream.APIError{ErrorCode: 10071, Description: "wrong last sequence: 5"}, true},
		{fmt.Errorf("nats: %w", &jetstream.APIError{ErrorCode: 10164, Description: "wrong last sequence"}), true},
		{&jetstream.APIError{ErrorCode: 10077, Description: "the store failed"}, false},
	} {
		if got := isConflict(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}
