// Package interop_test has the clients of others listen to the hub, and our client to the servers
// of others.
package interop_test

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
