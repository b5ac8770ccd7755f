//go:build powercut

package crashtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"skein/internal/nodetest"
)

const (
	ext4Shutdown    = 0x8004587D // EXT4_IOC_SHUTDOWN
	withoutFlushing = 2          // neither the journal nor anything else reaches the disk any more
	powerCuts       = 5          // unless CRASHTEST_CUTS says otherwise
)

// device is an ext4 file system on a loop device.
type device struct {
	t          *testing.T
	loop, path string
}

func newDevice(t *testing.T) *device {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("cuts the power of a file system of its own: needs root")
	}
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 1<<30); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", image).CombinedOutput(); err != nil {
		t.Skipf("cannot make an ext4 file system: %v\n%s", err, out)
	}
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		t.Skipf("cannot make a loop device: %v\n%s", err, out)
	}
	d := &device{t: t, loop: strings.TrimSpace(string(out)), path: t.TempDir()}
	t.Cleanup(func() {
		_ = syscall.Unmount(d.path, syscall.MNT_DETACH)
		_ = exec.Command("losetup", "--detach", d.loop).Run()
	})
	d.mount()
	return d
}

func (d *device) mount() {
	d.t.Helper()
	if err := syscall.Mount(d.loop, d.path, "ext4", 0, ""); err != nil {
		d.t.Fatalf("mount %s: %v", d.loop, err)
	}
}

// cut takes the power away and gives it back: what was not synced is gone. Nothing may be open.
func (d *device) cut() {
	d.t.Helper()
	f, err := os.Open(d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	flags := uint32(withoutFlushing)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags)))
	_ = f.Close()
	if errno != 0 {
		d.t.Fatalf("shut the file system down: %v", errno)
	}
	if err := syscall.Unmount(d.path, 0); err != nil {
		d.t.Fatalf("unmount: %v", err)
	}
	d.mount()
}

// TestPowerCut_A19_EverythingAcknowledgedIsThere kills a node under load and cuts the power at once, again and again: at a named point,
// or once the clients are done; sometimes while it recovers from the cut before.
func TestPowerCut_A19_EverythingAcknowledgedIsThere(t *testing.T) {
	cuts := powerCuts
	if s := os.Getenv("CRASHTEST_CUTS"); s != "" {
		var err error
		if cuts, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	d := newDevice(t)
	data := filepath.Join(d.path, "data")
	r := newRig(t, data, 4)
	for i := range cuts {
		p := points[r.ledger.Rand.IntN(len(points))]
		faults := fmt.Sprintf("%s=kill:%d", p.name, 1+r.ledger.Rand.IntN(p.often))
		r.crash(faults)
		d.cut()
		if r.ledger.Rand.IntN(4) == 0 {
			r.crash(fmt.Sprintf("%s=kill:1", points[r.ledger.Rand.IntN(len(points))].name))
			d.cut()
		}
		n := nodetest.MustStart(t, data)
		r.ledger.Check(t, n)
		n.Kill()
		t.Logf("cut %d at %s", i+1, faults)
	}
}
