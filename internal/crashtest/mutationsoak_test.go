//go:build soak

package crashtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"skein/internal/nodetest"
)

// TestSoakMutation_AcknowledgeBeforeFlush has a node acknowledge what is only in its memory: kills must notice.
func TestSoakMutation_AcknowledgeBeforeFlush(t *testing.T) {
	noticed(t, "TestNode_B01_KilledAtEveryPoint", nodetest.Patch{
		File: "internal/replog/log.go",
		Old:  "		l.received.Store(uint64(e.LSN))\n	}\n	return sum, nil",
		New:  "		l.received.Store(uint64(e.LSN))\n		l.Flushed.Advance(e.LSN)\n		l.FlushSoon()\n	}\n	return sum, nil",
	})
}

// noticed fails unless a test fails with a skein that is built from patched sources.
func noticed(t *testing.T, test string, patches ...nodetest.Patch) {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run", "^"+test+"$", "-test.v")
	command.Env = append(os.Environ(), "NODETEST_BINARY="+nodetest.Build(t, patches...))
	out, err := command.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--- FAIL: "+test) {
		t.Fatalf("%s does not notice (%v):\n%s", test, err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "acknowledged and is there") || strings.Contains(line, "replication log is damaged") {
			t.Log(strings.TrimSpace(line))
			return
		}
	}
	t.Errorf("%s fails, and not since something acknowledged is missing:\n%s", test, out)
}
