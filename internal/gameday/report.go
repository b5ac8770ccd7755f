package gameday

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"skein/internal/claims"
)

// Report is what a game day has shown. Times are milliseconds.
type Report struct {
	Nodes    int    `json:"nodes"`
	Clients  int    `json:"clients"`
	Level    string `json:"synchronous_commit,omitempty"`
	Mode     string `json:"mode"`
	Lossless bool   `json:"lossless"` // nothing that was acknowledged may be lost

	Rounds    []Round   `json:"rounds"`
	Summaries []Summary `json:"summary"`

	Acknowledged int      `json:"acknowledged"`
	Lost         int      `json:"lost"`
	Reported     int      `json:"reported_lost"` // entries that had been shown to clients and were given up, as the cluster tells
	Unknown      int      `json:"unknown"`
	Arrived      int      `json:"unknown_that_arrived"`
	Problems     []string `json:"problems"`
}

// Round is one of them.
type Round struct {
	Fault     Fault          `json:"fault"`
	Leader    string         `json:"leader"`
	Successor string         `json:"successor"`
	Epoch     uint64         `json:"epoch"`
	Pause     float64        `json:"pause_ms"`            // until the next acknowledgement; of a switchover the longest one between two
	Rejoin    float64        `json:"rejoin_ms,omitempty"` // from the start of its process until the old leader streams
	Failed    int            `json:"failed_statements"`
	Codes     map[string]int `json:"codes,omitempty"` // of the failed ones by SQLSTATE
	Said      string         `json:"said,omitempty"`

	at time.Duration
}

func (r Round) String() string {
	s := fmt.Sprintf("%-10s %-8s epoch %-4d writes paused for %7.1f ms", r.Fault, r.Leader, r.Epoch, r.Pause)
	if r.Rejoin > 0 {
		s += fmt.Sprintf(", back after %7.1f ms", r.Rejoin)
	}
	if r.Failed > 0 {
		s += fmt.Sprintf(", %d statements failed (%s)", r.Failed, codes(r.Codes))
	}
	return s
}

func codes(all map[string]int) string {
	var parts []string
	for _, code := range slices.Sorted(maps.Keys(all)) {
		name := code
		if name == "" {
			name = "no answer"
		}
		parts = append(parts, fmt.Sprintf("%s: %d", name, all[code]))
	}
	return strings.Join(parts, ", ")
}

// Summary is of all rounds with one fault.
type Summary struct {
	Fault  Fault `json:"fault"`
	Rounds int   `json:"rounds"`
	Pause  Spread
	Rejoin *Spread `json:"rejoin,omitempty"`
	Failed int     `json:"failed_statements"`
}

// Spread is of some measured times.
type Spread struct {
	Median float64 `json:"median_ms"`
	P99    float64 `json:"p99_ms"`
	Worst  float64 `json:"worst_ms"`
}

func (s Spread) String() string {
	return fmt.Sprintf("median %7.1f ms   p99 %7.1f ms   worst %7.1f ms", s.Median, s.P99, s.Worst)
}

func spread(times []float64) Spread {
	slices.Sort(times)
	n := len(times)
	return Spread{Median: times[n/2], P99: times[min(n-1, (n*99+99)/100-1)], Worst: times[n-1]}
}

func (r *Report) summarize() {
	byFault := map[Fault][]Round{}
	for _, one := range r.Rounds {
		byFault[one.Fault] = append(byFault[one.Fault], one)
	}
	for _, f := range slices.Sorted(maps.Keys(byFault)) {
		s := Summary{Fault: f, Rounds: len(byFault[f])}
		var pauses, rejoins []float64
		for _, one := range byFault[f] {
			s.Failed += one.Failed
			pauses = append(pauses, one.Pause)
			if one.Rejoin > 0 {
				rejoins = append(rejoins, one.Rejoin)
			}
		}
		s.Pause = spread(pauses)
		if len(rejoins) > 0 {
			rejoin := spread(rejoins)
			s.Rejoin = &rejoin
		}
		r.Summaries = append(r.Summaries, s)
	}
}

// Kept says whether the cluster has kept its word.
func (r *Report) Kept() bool { return len(r.Problems) == 0 }

// Text writes the summary for people.
func (r *Report) Text(w io.Writer) {
	level := r.Level
	if level == "" {
		level = "the cluster's"
	}
	fmt.Fprintf(w, "\n%d nodes, %s; %d clients, synchronous_commit %s\n\n", r.Nodes, r.Mode, r.Clients, level)
	for _, s := range r.Summaries {
		what := "to the next acknowledgement"
		if s.Fault == Switchover {
			what = "longest pause of writes"
		}
		fmt.Fprintf(w, "%-10s %3d rounds   %-28s %s   failed statements %d\n", s.Fault, s.Rounds, what, s.Pause, s.Failed)
		if s.Rejoin != nil {
			fmt.Fprintf(w, "%-10s              %-28s %s\n", "", "old leader streams again", s.Rejoin)
		}
	}
	fmt.Fprintf(w, "\n%d writes acknowledged, %d of them lost (the cluster reports %d); %d of unknown outcome, of which %d are there\n", r.Acknowledged, r.Lost, r.Reported, r.Unknown, r.Arrived)
	for _, p := range r.Problems {
		fmt.Fprintf(w, "WRONG: %s\n", p)
	}
}

// JSON writes everything for programs.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// failures are the statements told of since from that gave an error.
func failures(writes []claims.Write, from time.Duration) (count int, byCode map[string]int) {
	for _, w := range slices.Backward(writes) {
		if w.Told < from {
			break
		}
		if w.Outcome != claims.Acknowledged {
			if byCode == nil {
				byCode = map[string]int{}
			}
			count++
			byCode[w.Code]++
		}
	}
	return count, byCode
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
