//go:build soak

package clustertest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"skein/internal/nodetest"
)

// TestSoakMutations breaks, one after the other, the rules that nothing acknowledged is lost by, in the whole process: one of these tests must
// notice each.
func TestSoakMutations(t *testing.T) {
	for _, mutation := range mutations {
		t.Run(mutation.name, func(t *testing.T) {
			binary := nodetest.Build(t, mutation.patches...)
			command := exec.Command(os.Args[0], "-test.run", "^"+mutation.test+"$", "-test.v")
			command.Env = append(os.Environ(), "NODETEST_BINARY="+binary)
			out, err := command.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: "+mutation.test) {
				t.Fatalf("%s does not notice (%v):\n%s", mutation.test, err, out)
			}
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, "_test.go:") && !strings.Contains(line, "SEED") {
					t.Log(strings.TrimSpace(line))
				}
			}
		})
	}
}

// TestSoakMutation_NoEpochStart has a leader count acknowledgements of what it has inherited before its own first entry is acknowledged. In
// a cluster both come within a moment: a test of the pipeline must notice.
func TestSoakMutation_NoEpochStart(t *testing.T) {
	overlay := nodetest.Overlay(t, noEpochStart)
	test := "TestWhatWasInheritedIsCommittedWithTheFirstEntryOfTheEpoch"
	out, err := exec.Command("go", "test", "-vet=off", "-overlay", overlay, "-run", "^"+test+"$", "skein/internal/commit").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--- FAIL: "+test) {
		t.Fatalf("%s does not notice (%v):\n%s", test, err, out)
	}
}
