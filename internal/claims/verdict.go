package claims

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Have is how often each write is there.
type Have map[Key]int

// Read gives what a node has.
func Read(ctx context.Context, conn *pgx.Conn, table string) (Have, error) {
	rows, err := conn.Query(ctx, "SELECT client, n, count(*) FROM "+table+" GROUP BY client, n")
	if err != nil {
		return nil, err
	}
	have := Have{}
	var k Key
	var count int
	_, err = pgx.ForEachRow(rows, []any{&k.Client, &k.Number, &count}, func() error { have[k] = count; return nil })
	return have, err
}

// Verdict is what is wrong with a final state.
type Verdict struct {
	Lost    []Write // acknowledged, and not there
	Risen   []Write // refused, and there
	Twice   []Key
	Unasked []Key // there, and nobody has asked for it

	Acknowledged, Unknown, Arrived int // how many writes, and how many of the unknown are there
}

// Hold compares what clients were told with what is there.
func Hold(writes []Write, have Have) Verdict {
	var v Verdict
	asked := make(map[Key]bool, len(writes))
	for _, w := range writes {
		asked[w.Key] = true
		there := have[w.Key] > 0
		switch {
		case w.Outcome == Acknowledged && !there:
			v.Lost = append(v.Lost, w)
		case w.Outcome == Refused && there:
			v.Risen = append(v.Risen, w)
		}
		switch w.Outcome {
		case Acknowledged:
			v.Acknowledged++
		case Unknown:
			v.Unknown++
			if there {
				v.Arrived++
			}
		}
	}
	for k, count := range have {
		if count > 1 {
			v.Twice = append(v.Twice, k)
		}
		if !asked[k] {
			v.Unasked = append(v.Unasked, k)
		}
	}
	slices.SortFunc(v.Twice, compareKeys)
	slices.SortFunc(v.Unasked, compareKeys)
	return v
}

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Client, b.Client), cmp.Compare(a.Number, b.Number))
}

// Problems are what no cluster may do, in words: lost says whether acknowledged writes may not be missing.
func (v Verdict) Problems(lossless bool) []string {
	var p []string
	say := func(what string, all []Write) {
		if len(all) > 0 {
			p = append(p, fmt.Sprintf("%d %s, such as %v", len(all), what, all[0]))
		}
	}
	if lossless {
		say("acknowledged writes are lost", v.Lost)
	}
	say("refused writes are there", v.Risen)
	if len(v.Twice) > 0 {
		p = append(p, fmt.Sprintf("%d writes are there more than once, such as %v", len(v.Twice), v.Twice[0]))
	}
	if len(v.Unasked) > 0 {
		p = append(p, fmt.Sprintf("%d writes are there that nobody has asked for, such as %v", len(v.Unasked), v.Unasked[0]))
	}
	return p
}

// rejoin is how the history tells what a node gave up when it came back.
var rejoin = regexp.MustCompile(`had entries (\d+) to (\d+) of epoch \d+ that the cluster does not have; those up to (\d+) had been shown`)

// Reported is how many entries nodes have given up after they had been shown to clients, as the cluster's history tells.
func Reported(ctx context.Context, conn *pgx.Conn) (int, error) {
	rows, err := conn.Query(ctx, "SELECT event FROM skein_history WHERE kind = 'rejoin'")
	if err != nil {
		return 0, err
	}
	events, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return given(events), err
}

func given(events []string) (entries int) {
	for _, e := range events {
		m := rejoin.FindStringSubmatch(e)
		if m == nil {
			continue
		}
		first, _ := strconv.Atoi(m[1])
		shown, _ := strconv.Atoi(m[3])
		entries += shown - first + 1
	}
	return entries
}

// Counted says what is wrong with what the cluster reports of lost writes: it must report all that were acknowledged, and
// may report such as whose outcome is unknown.
func (v Verdict) Counted(reported int) []string {
	if lost := len(v.Lost); reported < lost || reported > lost+v.Unknown-v.Arrived {
		return []string{fmt.Sprintf("%d acknowledged writes are lost, and the cluster reports %d", lost, reported)}
	}
	return nil
}

// Leaders says what is wrong with who has acknowledged writes when: an epoch has one leader, and once a later
// epoch has acknowledged something nobody acknowledges in an earlier one.
func Leaders(writes []Write) []string {
	var problems []string
	acked := slices.DeleteFunc(slices.Clone(writes), func(w Write) bool { return w.Outcome != Acknowledged })
	owner := map[uint64]Write{}
	for _, w := range acked {
		if w.Leader.Address == "" {
			continue
		}
		first, known := owner[w.Leader.Epoch]
		if !known {
			owner[w.Leader.Epoch] = w
		} else if first.Leader.Address != w.Leader.Address {
			problems = append(problems, fmt.Sprintf("two nodes have acknowledged in one epoch: %v, %v", first, w))
			break
		}
	}
	// In order of what comes first for sure: a write that was told before another one was sent.
	bySent := slices.Clone(acked)
	slices.SortFunc(bySent, func(a, b Write) int { return cmp.Compare(a.Sent, b.Sent) })
	slices.SortFunc(acked, func(a, b Write) int { return cmp.Compare(a.Told, b.Told) })
	var newest Write
	i := 0
	for _, w := range bySent {
		for ; i < len(acked) && acked[i].Told < w.Sent; i++ {
			if newest.Leader == nil || acked[i].Leader.Epoch > newest.Leader.Epoch {
				newest = acked[i]
			}
		}
		if newest.Leader != nil && w.Leader.Epoch < newest.Leader.Epoch {
			return append(problems, fmt.Sprintf("an epoch has acknowledged after a later one: %v, %v", newest, w))
		}
	}
	return problems
}

// LongestPause is the longest time between from and till in which no write was acknowledged, and when it began.
func LongestPause(writes []Write, from, till time.Duration) (at, pause time.Duration) {
	var told []time.Duration
	for _, w := range writes {
		if w.Outcome == Acknowledged && w.Told > from && w.Told < till {
			told = append(told, w.Told)
		}
	}
	slices.Sort(told)
	last := from
	for _, t := range append(told, till) {
		if t-last > pause {
			at, pause = last, t-last
		}
		last = t
	}
	return at, pause
}
