package sse

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/watchbox-go/watchbox/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// leavesNothing fails the test if a goroutine that it started is still running at its end. Call it before
// anything that ends in a cleanup function.
func leavesNothing(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { leak.None(t, before) })
}
