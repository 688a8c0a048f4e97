// Package interop_test tests other clients with the hub, and our client with other servers.
package interop_test

import (
	"testing"

	"github.com/watchbox-go/watchbox/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }
