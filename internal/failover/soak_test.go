//go:build soak

package failover

import (
	"os"
	"testing"
	"time"
)

// TestSoakWalks tries random histories for FAILOVER_TIME, a minute unless it says otherwise.
func TestSoakWalks(t *testing.T) {
	length := time.Minute
	if v := os.Getenv("FAILOVER_TIME"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatal(err)
		}
		length = d
	}
	first := uint64(time.Now().UnixNano())
	t.Logf("from seed %d on", first)
	tried := uint64(0)
	for end := time.Now().Add(length); time.Now().Before(end); tried++ {
		if wrong, _ := walk(first + tried); wrong != "" {
			t.Errorf("-seed %d: %s", first+tried, wrong)
		}
	}
	t.Logf("%d walks", tried)
}

// TestSoakMutations runs all of them, and says how many walks find each.
func TestSoakMutations(t *testing.T) { mutate(t, mutations, "-walks", "500", "-tally") }
