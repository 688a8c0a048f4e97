// Package interop_test tests other clients with the hub, and our client with other servers.
package interop_test

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
