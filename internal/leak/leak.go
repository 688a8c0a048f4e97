// Package leak finds goroutines that tests leave behind. goleak alone waits half a second for them to end, which is
// too short on a busy machine. This package waits a minute.
package leak

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const patience = time.Minute

// Find returns an error if goroutines are still running after a minute.
func Find(opts ...goleak.Option) error {
	for late := time.Now().Add(patience); ; {
		if err := goleak.Find(opts...); err == nil || time.Now().After(late) {
			return err
		}
	}
}

// None fails the test if goroutines are still running after a minute.
func None(t goleak.TestingT, opts ...goleak.Option) {
	if err := Find(opts...); err != nil {
		t.Error(err)
	}
}

// Main runs a package's tests and exits, with the status that Run returns.
func Main(m *testing.M, opts ...goleak.Option) { os.Exit(Run(m, opts...)) }

// Run runs a package's tests. It returns the status of the process: 1 if a test has failed or goroutines are left.
func Run(m *testing.M, opts ...goleak.Option) int {
	code := m.Run()
	if code == 0 {
		if err := Find(opts...); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left after all tests:", err)
			code = 1
		}
	}
	return code
}
