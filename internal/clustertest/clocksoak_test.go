//go:build soak

package clustertest

import (
	"os"
	"strconv"
	"testing"
	"time"

	"skein/internal/nodetest"
)

// wrongClock makes time.Now of a whole process wrong, as a clock that is set does: the wall clock jumps, the monotonic clock does not.
var wrongClock = []nodetest.Patch{
	{File: "std:time/time.go", Old: "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n", New: "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n\tsec += wrongBy()\n"},
	{File: "std:time/wrong.go", New: `package time

import (
	"sync/atomic"
	"syscall"
)

var wrong atomic.Int64

func wrongBy() int64 { return wrong.Load() }

// The file is read by a goroutine: Now itself is called where nobody may wait.
func init() {
	if name, ok := syscall.Getenv("` + clockVariable + `"); ok {
		go func() {
			for ; ; Sleep(10 * Millisecond) {
				if f, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err == nil {
					wrong.Store(wrongSeconds(f))
					syscall.Close(f)
				}
			}
		}()
	}
}

func wrongSeconds(f int) int64 {
	var b [24]byte
	n, _ := syscall.Read(f, b[:])
	by, sign := int64(0), int64(1)
	for _, c := range b[:max(n, 0)] {
		if c == '-' {
			sign = -1
		} else if c >= '0' && c <= '9' {
			by = by*10 + int64(c-'0')
		}
	}
	return sign * by
}
`},
}

// set makes a node's wall clock wrong, and waits until it is.
func (m *member) set(wrong time.Duration) {
	m.t.Helper()
	m.t.Logf("the clock of %s is wrong by %v", m.name, wrong)
	next := m.clock() + ".next"
	if err := os.WriteFile(next, []byte(strconv.Itoa(int(wrong.Seconds()))), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(next, m.clock()); err != nil {
		m.t.Fatal(err)
	}
	const near = "300" // seconds, for a machine that is slow
	m.await("SELECT abs(extract(epoch FROM now()) - "+strconv.Itoa(int(time.Now().Add(wrong).Unix()))+") < "+near, "t")
}

// E06: wall clocks jump by hours, back and forth, on one node after the other and on all. Nobody is replaced for it, commits go on, and a
// leader that dies meanwhile is replaced as ever. Afterwards times are right again.
func TestSoakClock_E06_WallClocksJump(t *testing.T) {
	binary := nodetest.Build(t, wrongClock...)
	for name, names := range map[string]string{"synchronous": "ANY 1 (*)", "asynchronous": ""} {
		t.Run(name, func(t *testing.T) {
			e := newElectedOf(t, binary, 3, names)
			e.load()
			jumps := []time.Duration{3 * time.Hour, -5 * time.Hour, 400 * 24 * time.Hour, -24 * time.Hour, 0}
			e.stays(func() {
				for _, m := range e.members {
					for _, wrong := range jumps {
						m.set(wrong)
						e.progress(30)
						e.forLonger(time.Second)
					}
				}
			})
			for _, wrong := range []time.Duration{6 * time.Hour, -6 * time.Hour} {
				e.coordinator().set(wrong)
				old := e.lead()
				old.Kill()
				e.takesOver(old, e.claims.Since())
				old.start()
				e.caughtUp()
			}
			for _, m := range e.members {
				m.set(0)
			}
			e.end(names != "")
		})
	}
}
