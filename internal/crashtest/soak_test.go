//go:build soak

package crashtest

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// TestSoakKilledAtAnyPoint kills a node at random points for as long as CRASHTEST_TIME says (10m).
func TestSoakKilledAtAnyPoint(t *testing.T) {
	d := 10 * time.Minute
	if s := os.Getenv("CRASHTEST_TIME"); s != "" {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, t.TempDir(), 6)
	runs := 0
	for end := time.Now().Add(d); time.Now().Before(end); runs++ {
		p := points[r.ledger.Rand.IntN(len(points))]
		faults := fmt.Sprintf("%s=kill:%d", p.name, 1+r.ledger.Rand.IntN(2*p.often))
		r.crash(faults)
		r.recover()
	}
	t.Logf("%d runs, %d ended by their fault, %d rows", runs, r.fired, r.ledger.Rows())
}
