package guarantees

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"skein/internal/claims"
	"skein/internal/history"
)

// Rule is a promise that can be broken.
type Rule string

// The rules. A session's own and its causality key's hold for every read but eventual ones.
const (
	OwnWrites    Rule = "read your writes"
	Monotonic    Rule = "monotonic reads"
	Causal       Rule = "causality key"
	Staleness    Rule = "bounded staleness"
	Linearizable Rule = "strong reads and writes"
	OneSnapshot  Rule = "a block sees one snapshot"
	OneHistory   Rule = "one history" // what was seen is a stage of what there is in the end
	NothingLost  Rule = "nothing acknowledged is lost"
	AtMostOnce   Rule = "at most once"
	NoSurprise   Rule = "what was refused does not happen"
	Positions    Rule = "positions grow with the commits that they are of"
	ClearAnswers Rule = "outcome unknown is the only unclear answer"
	Answers      Rule = "every statement is answered"
	ReadsGoOn    Rule = "eventual reads go on"
	AnyNode      Rule = "any node takes any statement"
)

// Violation is a promise that was broken, by what a client was told last, and by what it contradicts.
type Violation struct {
	Rule   Rule
	Op     Op
	Detail string
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s: %v", v.Rule, v.Detail, v.Op) }

// Judge says which promises a history breaks, given all entries that a node has in the end, when it has everything. Operations may
// come in any order, and those of one session may not overlap.
func Judge(h History, entries []Entry) []Violation {
	j := &judge{History: h, entries: slices.Clone(entries), at: map[ID]Number{}}
	j.Ops = slices.Clone(h.Ops)
	slices.SortStableFunc(j.Ops, func(a, b Op) int { return cmp.Compare(a.Sent, b.Sent) })
	j.final()
	j.resolve()
	j.truth()
	j.sessions()
	j.blocks()
	j.freshness()
	j.positions()
	j.answers()
	return j.found
}

type judge struct {
	History
	entries []Entry
	at      map[ID]Number // in the end
	found   []Violation
}

func (j *judge) violates(r Rule, o Op, format string, args ...any) {
	j.found = append(j.found, Violation{r, o, fmt.Sprintf(format, args...)})
}

// final looks at the entries by themselves.
func (j *judge) final() {
	slices.SortFunc(j.entries, func(a, b Entry) int { return cmp.Compare(a.Number, b.Number) })
	for i, e := range j.entries {
		if want := Number(i + 1); e.Number != want {
			j.violates(OneHistory, Op{Action: Write, ID: e.ID, Number: e.Number}, "it stands where %d should", want)
		}
		if first, twice := j.at[e.ID]; twice {
			j.violates(AtMostOnce, Op{Action: Write, ID: e.ID, Number: e.Number}, "it is number %d too", first)
			continue
		}
		j.at[e.ID] = e.Number
	}
}

// resolve gives writes of unknown outcome the numbers that they turned out to have; those that never arrived keep none.
func (j *judge) resolve() {
	for i := range j.Ops {
		if o := &j.Ops[i]; o.Action == Write && o.Outcome == claims.Unknown {
			o.Number = j.at[o.ID]
		}
	}
}

// truth compares what clients were told with what there is.
func (j *judge) truth() {
	asked := map[ID]bool{}
	for _, o := range j.Ops {
		if o.Action != Write {
			continue
		}
		asked[o.ID] = true
		n, there := j.at[o.ID]
		switch {
		case o.Outcome == claims.Acknowledged && !there:
			j.violates(NothingLost, o, "it is not there")
		case o.Outcome == claims.Acknowledged && n != o.Number:
			j.violates(OneHistory, o, "it is number %d in the end", n)
		case o.Outcome == claims.Refused && there:
			j.violates(NoSurprise, o, "it is there as number %d", n)
		}
	}
	for _, e := range j.entries {
		if !asked[e.ID] {
			j.violates(NoSurprise, Op{Action: Write, ID: e.ID, Number: e.Number}, "nobody has asked for it")
		}
	}
	for _, o := range j.Ops {
		if o.Action == Read && o.Outcome == claims.Acknowledged && o.Number > 0 && j.at[o.ID] != o.Number {
			j.violates(OneHistory, o, "what it saw as number %d is %d in the end", o.Number, j.at[o.ID])
		}
	}
}

// past is what a session has to see from now on, and who says so.
type past struct {
	wrote, saw Op
}

// sessions holds each session's reads against what it has itself written and seen.
func (j *judge) sessions() {
	all := map[int]*past{}
	for _, o := range j.Ops {
		p := all[o.Session]
		if p == nil {
			p = &past{}
			all[o.Session] = p
		}
		if o.Outcome != claims.Acknowledged {
			continue
		}
		switch o.Action {
		case Connect:
			switch o.Carried {
			case Nothing:
				*p = past{}
			case Commit:
				p.saw = Op{}
			}
		case Write:
			p.wrote = later(p.wrote, o)
		case Read:
			if o.Level != Eventual {
				if o.Number < p.wrote.Number {
					j.violates(OwnWrites, o, "it should see number %d, of %v", p.wrote.Number, p.wrote)
				}
				if o.Number < p.saw.Number {
					j.violates(Monotonic, o, "it should see number %d, of %v", p.saw.Number, p.saw)
				}
			}
			p.saw = later(p.saw, o)
		}
	}
}

// blocks checks that nothing happens between what a block reads and what it writes.
func (j *judge) blocks() {
	first := map[int]Op{} // reads
	for _, o := range j.Ops {
		if o.Block == 0 || o.Outcome != claims.Acknowledged {
			continue
		}
		read, known := first[o.Block]
		switch {
		case o.Action == Read && !known:
			first[o.Block] = o
		case o.Action == Read && o.Number != read.Number:
			j.violates(OneSnapshot, o, "its block saw number %d before", read.Number)
		case o.Action == Write && known && o.Number != read.Number+1:
			j.violates(OneSnapshot, o, "its block saw number %d", read.Number)
		}
	}
}

// later is the one that knows more.
func later(a, b Op) Op {
	if b.Number >= a.Number {
		return b
	}
	return a
}

// freshness holds reads and writes against what was acknowledged, to anybody, before they were sent.
func (j *judge) freshness() {
	writes := newTimeline(j.Ops, func(o Op) bool { return o.Action == Write })
	strong := newTimeline(j.Ops, func(o Op) bool { return o.Action == Write || o.Action == Read && o.Level == Strong })
	keyed := map[string]*timeline{}
	for _, o := range j.Ops {
		if o.Key != "" && keyed[o.Key] == nil {
			keyed[o.Key] = newTimeline(j.Ops, func(w Op) bool { return w.Action == Write && w.Key == o.Key })
		}
	}
	for _, o := range j.Ops {
		known := o.Outcome == claims.Acknowledged || o.Action == Write && o.Outcome == claims.Unknown && o.Number > 0
		if !known || o.Action == Connect {
			continue
		}
		if o.Action == Write {
			if before := strong.before(o.Sent); o.Number <= before.Number {
				j.violates(Linearizable, o, "it comes after number %d, of %v", before.Number, before)
			}
			continue
		}
		if o.Level != Eventual && o.Key != "" {
			if before := keyed[o.Key].before(o.Sent); o.Number < before.Number {
				j.violates(Causal, o, "it should see number %d, of %v", before.Number, before)
			}
		}
		switch o.Level {
		case Bounded:
			if before := writes.before(o.Sent - o.Bound); o.Number < before.Number {
				j.violates(Staleness, o, "it should see number %d, of %v", before.Number, before)
			}
		case Strong:
			if before := strong.before(o.Sent); o.Number < before.Number {
				j.violates(Linearizable, o, "it should see number %d, of %v", before.Number, before)
			}
		}
	}
}

// timeline knows which operation had seen most at any time.
type timeline struct {
	told []time.Duration // ascending
	most []Op            // of all that were told by then
}

func newTimeline(ops []Op, of func(Op) bool) *timeline {
	t := &timeline{}
	ops = slices.DeleteFunc(slices.Clone(ops), func(o Op) bool { return o.Outcome != claims.Acknowledged || !of(o) })
	slices.SortStableFunc(ops, func(a, b Op) int { return cmp.Compare(a.Told, b.Told) })
	var most Op
	for _, o := range ops {
		most = later(most, o)
		t.told, t.most = append(t.told, o.Told), append(t.most, most)
	}
	return t
}

// before gives the operation that had seen most of those that were told before a time.
func (t *timeline) before(at time.Duration) Op {
	i, _ := slices.BinarySearch(t.told, at)
	if i == 0 {
		return Op{}
	}
	return t.most[i-1]
}

// positions holds what was reported with writes against their order.
func (j *judge) positions() {
	acked := slices.DeleteFunc(slices.Clone(j.Ops), func(o Op) bool { return o.Action != Write || o.Outcome != claims.Acknowledged })
	slices.SortStableFunc(acked, func(a, b Op) int { return cmp.Compare(a.Number, b.Number) })
	var last Op
	var before history.Bookmark
	for _, o := range acked {
		b, err := history.ParseBookmark(o.At)
		if err != nil {
			j.violates(Positions, o, "the position with it is none: %v", err)
			continue
		}
		if last.At != "" && (b.Cluster != before.Cluster || b.Epoch < before.Epoch || b.LSN <= before.LSN) {
			j.violates(Positions, o, "it comes after %v", last)
		}
		last, before = o, b
	}
}

// answers looks at those that were none.
func (j *judge) answers() {
	awaits := map[int]bool{} // sessions whose next read waits for a position, which a node that is cut off never has
	for _, o := range j.Ops {
		excused := j.out(o)
		if o.Outcome == claims.Acknowledged && o.Action != Write {
			awaits[o.Session] = o.Action == Connect && (o.Carried == Commit || o.Carried == Seen)
		}
		switch {
		case o.Action == Write && o.Code == readOnly:
			j.violates(AnyNode, o, "it was not handed to the leader")
		case excused:
		case o.Hung:
			j.violates(Answers, o, "nothing came for %v", o.Told-o.Sent)
		case o.Lost:
			j.violates(ClearAnswers, o, "the connection to a node that had nothing to suffer was lost")
		case o.Action == Write && o.Outcome == claims.Unknown && !slices.Contains(unknownOutcome, o.Code):
			j.violates(ClearAnswers, o, "the outcome is unknown and the code does not say so")
		case o.Outcome == claims.Refused && slices.Contains(unknownOutcome, o.Code):
			j.violates(ClearAnswers, o, "nothing of it can have happened, and its outcome is called unknown")
		case o.Action == Read && o.Level == Eventual && o.Outcome == claims.Refused && !o.lostItsBlock() && !(awaits[o.Session] && o.Code == notReached):
			j.violates(ReadsGoOn, o, "it failed on a node that had nothing to suffer")
		}
	}
}

// lostItsBlock says whether a read is of a block that may end without the client's doing: one that may write is the leader's, and one that
// only reads ends where it is when its node begins or ceases to lead.
func (o Op) lostItsBlock() bool { return o.Block != 0 && (o.Writes || o.Code == rolledBack) }

const (
	rolledBack = "40001"
	readOnly   = "25006"
	notReached = "57014" // the position that was to be waited for
)

// unknownOutcome is how a node says so: statement_completion_unknown and transaction_resolution_unknown.
var unknownOutcome = []string{"40003", "08007"}
