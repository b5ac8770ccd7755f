//go:build soak && powercut

package crashtest

import (
	"testing"

	"skein/internal/nodetest"
)

// TestSoakMutation_WithoutFsync has a node never sync its log: power cuts must notice.
func TestSoakMutation_WithoutFsync(t *testing.T) {
	newDevice(t) // or skip
	noticed(t, "TestPowerCut_A19_EverythingAcknowledgedIsThere", nodetest.Patch{
		File: "internal/replog/log.go",
		Old:  "		if err := l.options.disk.sync(r.segment.file); err != nil {\n			return 0, err\n		}\n		if err := fault.Hit(\"log.afterSync\")",
		New:  "		if err := fault.Hit(\"log.afterSync\")",
	})
}
