//go:build failpoints

package fault

import (
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Enabled says whether this binary can be told to fail.
const Enabled = true

type point struct {
	action string
	at     int64
	file   string // of hang
	passed atomic.Int64
}

// look is how often somebody who hangs looks whether he still has to.
const look = 5 * time.Millisecond

var points = parse(os.Getenv("SKEIN_FAULT"))

func parse(s string) map[string]*point {
	m := map[string]*point{}
	for _, f := range strings.Split(s, ",") {
		name, action, ok := strings.Cut(f, "=")
		if !ok {
			continue
		}
		action, nth, _ := strings.Cut(action, ":")
		n, err := strconv.ParseInt(nth, 10, 64)
		if err != nil {
			n = 1
		}
		m[name] = &point{action: action, at: n, file: nth}
	}
	return m
}

// Hit passes a named point; the error, if any, is to be treated as the operation's own.
func Hit(name string) error {
	p := points[name]
	if p == nil {
		return nil
	}
	if p.action == "hang" {
		for exists(p.file) {
			time.Sleep(look)
		}
		return nil
	}
	if p.at > 0 && p.passed.Add(1) != p.at {
		return nil
	}
	switch p.action {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "eio":
		return syscall.EIO
	case "enospc":
		return syscall.ENOSPC
	case "short":
		return io.ErrShortWrite
	}
	return nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
