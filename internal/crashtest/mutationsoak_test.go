//go:build soak && powercut

package crashtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"skein/internal/nodetest"
)

// TestSoakPowerCut_WithoutFsync has power cuts happen to a node that never has its log synced: they must notice.
func TestSoakPowerCut_WithoutFsync(t *testing.T) {
	const test = "TestPowerCut_A19_EverythingAcknowledgedIsThere"
	newDevice(t) // or skip
	binary := nodetest.Build(t, nodetest.Patch{
		File: "internal/replog/disk.go",
		Old:  "		err := syscall.Fdatasync(int(f.Fd()))\n",
		New:  "		err := error(nil)\n",
	})
	command := exec.Command(os.Args[0], "-test.run", "^"+test+"$", "-test.v")
	command.Env = append(os.Environ(), "NODETEST_BINARY="+binary)
	if out, err := command.CombinedOutput(); err == nil || !strings.Contains(string(out), "--- FAIL: "+test) {
		t.Fatalf("%s does not notice (%v):\n%s", test, err, out)
	}
}
