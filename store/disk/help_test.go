package disk_test

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// scaleVariable names the environment variable that makes the random and crash tests longer. The default is 1.
//
//	what                                   at 1     at N
//	TestRandomLives: stores                4        4 N
//	  messages per writer and life         250      500
//	TestAKillAtAnyMoment…: kills           12, 3    12 N, 3 N
//	TestAPowerCut…: cuts that are examined 30       30 N
//	TestADiskFailureAtAnyOperation…,
//	TestAWriteWaits…AtAnyOperation: next   1/8,     1/(8 N),
//	  operation to fail is later by        1/4      1/(4 N)
//	TestABadTable…: tables                 5        5 N
//	storetest: rapid checks                10       10 N
const scaleVariable = "WATCHBOX_TEST_SCALE"

var scale = func() int {
	s := os.Getenv(scaleVariable)
	if s == "" {
		return 1
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		panic(scaleVariable + " is " + s + ", want a number above 0")
	}
	return n
}()

// testTimeout is how long tests wait for an event. It only bounds a test that fails.
const testTimeout = 5 * time.Minute

// waker returns a function that sends a wake-up to a channel of size one without blocking.
func waker(wake chan<- struct{}) func() {
	return func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// until calls ok at once and after each wake-up, until it returns true.
func until(t *testing.T, wake <-chan struct{}, what string, ok func() bool) {
	t.Helper()
	for timeout := time.After(testTimeout); !ok(); {
		select {
		case <-wake:
		case <-timeout:
			t.Fatalf("timed out after %v: %s", testTimeout, what)
		}
	}
}

// some returns at most n elements, spread over the list.
func some[T any](list []T, n int) (out []T) {
	step := max(1, (len(list)+n-1)/n)
	for i := 0; i < len(list); i += step {
		out = append(out, list[i])
	}
	return out
}
