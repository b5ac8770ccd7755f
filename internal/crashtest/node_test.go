package crashtest

import (
	"os"
	"testing"

	"skein/internal/nodetest"
)

func TestMain(m *testing.M) { os.Exit(nodetest.Main(m)) }

// start gives a node that lets clients in; it fails where SKEIN_FAULT has the given content.
func start(t *testing.T, dir, faults string) (*nodetest.Node, error) {
	t.Helper()
	return nodetest.Start(t, nodetest.Options{Dir: dir, Faults: faults})
}

func seed(t *testing.T) uint64 {
	t.Helper()
	return nodetest.Seed(t, "CRASHTEST_SEED")
}
