package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"skein/internal/replication"
)

const (
	barWidth = 40
	barPace  = 100 * time.Millisecond
)

// newBar draws, on a terminal, how far a copy is that this node takes. Elsewhere it is nil: the node's log and
// pg_stat_wal_receiver say it too.
func newBar(out *os.File) func(replication.Progress) {
	if st, err := out.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	var drawn time.Time
	return func(p replication.Progress) {
		if p.Total == 0 || p.Done < p.Total && time.Since(drawn) < barPace {
			return
		}
		drawn = time.Now()
		fmt.Fprint(out, "\r", barLine(p))
		if p.Done >= p.Total {
			fmt.Fprintln(out)
		}
	}
}

func barLine(p replication.Progress) string {
	full := int(barWidth * min(p.Done, p.Total) / p.Total)
	return fmt.Sprintf("copying the cluster [%s%s] %3d %%  %d of %d MB  %d MB/s ",
		strings.Repeat("#", full), strings.Repeat(".", barWidth-full), 100*min(p.Done, p.Total)/p.Total, p.Done>>20, p.Total>>20, p.Rate>>20)
}
