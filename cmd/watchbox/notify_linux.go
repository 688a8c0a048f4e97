package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// reloading returns the state of a service that reads its files again. The time lets a service manager tell this
// reload from an earlier one.
func reloading() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return "RELOADING=1"
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond))
}
