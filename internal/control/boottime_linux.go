package control

import (
	"time"

	"golang.org/x/sys/unix"
)

// Boottime is a clock that goes on while the machine sleeps, and is of this machine alone. Leases are measured
// by it: time.Now's monotonic part stands still in a sleep, after which a lease would look younger than it is.
func Boottime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("CLOCK_BOOTTIME cannot be read: " + err.Error()) // since Linux 2.6.39 it can
	}
	return time.Duration(t.Nano())
}
