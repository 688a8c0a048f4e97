package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

// notify tells a service manager about the state of this process, as sd_notify(3) does. It does nothing if no service
// manager has asked for it with NOTIFY_SOCKET.
func notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close()
	}
	if err != nil {
		return fmt.Errorf("cannot notify the service manager (NOTIFY_SOCKET): %w", err)
	}
	return nil
}

// stopping returns the state of a service that ends. The service manager must not kill it during the drain delay.
func stopping(drainDelay time.Duration) string {
	if drainDelay == 0 {
		return "STOPPING=1"
	}
	const afterDrain = 30 * time.Second // to end streams and requests, and to close the store
	return fmt.Sprintf("STOPPING=1\nEXTEND_TIMEOUT_USEC=%d", (drainDelay + afterDrain).Microseconds())
}
