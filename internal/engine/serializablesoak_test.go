//go:build soak

package engine

import (
	"os"
	"testing"
	"time"
)

// TestSoakTransactionsAreStrictlySerializable goes on for as long as ENGINE_TIME says (10m).
func TestSoakTransactionsAreStrictlySerializable(t *testing.T) {
	d := 10 * time.Minute
	if s := os.Getenv("ENGINE_TIME"); s != "" {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(d); time.Now().Before(end) && !t.Failed(); {
		for i, v := range hurlies {
			t.Run(v.name, func(t *testing.T) {
				h := &hurly{rig: newRig(t), shape: v, seed: *seed, sessions: 4 + 8*i, each: 60}
				h.run()
			})
		}
	}
}
