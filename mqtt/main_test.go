package mqtt

import (
	"testing"

	"github.com/watchbox-go/watchbox/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }
