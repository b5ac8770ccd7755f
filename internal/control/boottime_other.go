//go:build !linux

package control

import "time"

var processStart = time.Now()

// Boottime is a clock of this machine alone. On this system it may stand still while the machine sleeps.
func Boottime() time.Duration { return time.Since(processStart) }
