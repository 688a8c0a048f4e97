//go:build !windows

// Package mqtt_test tests watchbox serve --mqtt with the MQTT clients of others, together with HTTP clients.
//
// WATCHBOX_TEST_MQTT=mosquitto runs the tests that need nothing but MQTT with Debian's mosquitto. They pass with it,
// which shows that they expect what MQTT says.
package mqtt_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/watchbox-go/watchbox/internal/leak"
	"github.com/watchbox-go/watchbox/test/cluster/hubs"
)

// program is the path of watchbox, which is built once.
var program string

// scratch is a folder for files that may be in use until the tests have ended.
var scratch string

// reference is set if the tests run with mosquitto.
var reference = os.Getenv("WATCHBOX_TEST_MQTT") == "mosquitto"

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	scratch, err = os.MkdirTemp("", "watchbox-mqtt-")
	if err == nil && !reference {
		program, err = hubs.Build(scratch)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := leak.Run(m, goleak.IgnoreTopFunction("github.com/watchbox-go/watchbox/test/cluster/process.starting"))
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}
