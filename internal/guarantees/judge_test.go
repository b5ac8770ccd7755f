package guarantees

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"skein/internal/claims"
	"skein/internal/history"
)

const ms = time.Millisecond

// of is an operation of a session on node n1.
func of(session int, a Action, sent, told int, n Number) Op {
	o := Op{Session: session, Node: "n1", Action: a, Level: Session, Sent: time.Duration(sent) * ms, Told: time.Duration(told) * ms, Outcome: claims.Acknowledged, Number: n}
	if n > 0 {
		o.ID = ID(100 + n)
	}
	if a == Write {
		o.At = mark(1, n)
	}
	return o
}

func mark(e history.Epoch, n Number) string {
	return history.Bookmark{Cluster: [4]byte{1, 2, 3, 4}, Epoch: e, LSN: history.LSN(1000 + 3*n)}.String()
}

func write(session, sent, told int, n Number) Op { return of(session, Write, sent, told, n) }
func read(session, sent, told int, n Number) Op  { return of(session, Read, sent, told, n) }

func connect(session, at int, with Carried) Op {
	o := of(session, Connect, at, at, 0)
	o.Carried = with
	return o
}

func (o Op) level(l Level) Op                    { o.Level = l; return o }
func (o Op) bound(d time.Duration) Op            { o.Level, o.Bound = Bounded, d; return o }
func (o Op) keyed(key string) Op                 { o.Key = key; return o }
func (o Op) block(b int) Op                      { o.Block = b; return o }
func (o Op) told(as claims.Outcome, c string) Op { o.Outcome, o.Code, o.At = as, c, ""; return o }
func (o Op) with(change func(*Op)) Op            { change(&o); return o }
func unknown(session, sent, told int, id ID) Op {
	return write(session, sent, told, 0).told(claims.Unknown, "40003").with(func(o *Op) { o.ID = id })
}

// upTo is what a node has after so many writes.
func upTo(n Number) (entries []Entry) {
	for i := Number(1); i <= n; i++ {
		entries = append(entries, Entry{i, ID(100 + i)})
	}
	return entries
}

func TestJudge(t *testing.T) {
	// Session 1 has written 1 to 3, the last one acknowledged at 30.
	begun := []Op{write(1, 0, 10, 1), write(1, 12, 20, 2), write(1, 22, 30, 3)}
	for _, test := range []struct {
		name string
		more []Op
		end  []Entry // upTo(3)
		out  []Outage
		want []Rule
	}{
		{name: "all is well", more: []Op{read(1, 31, 32, 3), read(2, 31, 33, 0), read(2, 34, 35, 2), read(2, 36, 37, 2)}},
		{name: "own write unseen", more: []Op{read(1, 31, 32, 2)}, want: []Rule{OwnWrites}},
		{name: "an eventual read may", more: []Op{read(1, 31, 32, 2).level(Eventual)}},
		{name: "a bounded read must", more: []Op{read(1, 31, 32, 2).bound(time.Second)}, want: []Rule{OwnWrites}},
		{name: "own write unseen on another node", more: []Op{connect(1, 31, Commit), read(1, 32, 33, 1)}, want: []Rule{OwnWrites}},
		{name: "a new session that carries nothing", more: []Op{connect(1, 31, Nothing), read(1, 32, 33, 1)}},
		{name: "back in time", more: []Op{read(2, 31, 32, 3), read(2, 33, 34, 2)}, want: []Rule{Monotonic}},
		{name: "back in time after an eventual read", more: []Op{read(2, 31, 32, 3).level(Eventual), read(2, 33, 34, 2)}, want: []Rule{Monotonic}},
		{name: "back in time on another node", more: []Op{read(2, 31, 32, 3), connect(2, 33, Seen), read(2, 34, 35, 2)}, want: []Rule{Monotonic}},
		{name: "only writes were carried", more: []Op{read(2, 31, 32, 3), connect(2, 33, Commit), read(2, 34, 35, 2)}},
		{name: "a connect that failed changes nothing", more: []Op{connect(1, 31, Nothing).told(claims.Refused, ""), read(1, 32, 33, 2)}, want: []Rule{OwnWrites}},
		{name: "a read that failed saw nothing", more: []Op{read(1, 31, 32, 0).told(claims.Refused, "57014")}},
		{
			name: "key", more: []Op{write(2, 31, 40, 4).keyed("a"), read(3, 41, 42, 3).keyed("a"), read(3, 43, 44, 3).keyed("b"), read(3, 45, 46, 4).keyed("a")},
			end: upTo(4), want: []Rule{Causal},
		},
		{name: "key, at the same time", more: []Op{write(2, 31, 40, 4).keyed("a"), read(3, 39, 42, 3).keyed("a")}, end: upTo(4)},
		{name: "stale", more: []Op{read(2, 40, 50, 2).bound(9 * ms)}, want: []Rule{Staleness}},
		{name: "not so stale", more: []Op{read(2, 40, 50, 2).bound(10 * ms)}},
		{name: "strong and stale", more: []Op{read(2, 31, 50, 2).level(Strong)}, want: []Rule{Linearizable}},
		{name: "strong, at the same time", more: []Op{read(2, 30, 50, 2).level(Strong)}},
		{
			name: "strong reads disagree", more: []Op{write(1, 31, 60, 4), read(2, 35, 40, 4).level(Strong), read(3, 41, 42, 3).level(Strong)},
			end: upTo(4), want: []Rule{Linearizable},
		},
		{name: "a write before its time", more: []Op{write(2, 31, 60, 5), write(1, 61, 70, 4)}, end: upTo(5), want: []Rule{Linearizable}},
		{name: "a write that was shown before it was sent", more: []Op{read(2, 31, 32, 4), write(1, 33, 70, 4)}, end: upTo(4)}, // odd, and nobody's promise
		{name: "lost", end: upTo(2), want: []Rule{NothingLost}},
		{name: "seen, then lost", more: []Op{unknown(2, 31, 40, 104), read(3, 41, 42, 4)}, want: []Rule{OneHistory}},
		{name: "a long fork", more: []Op{read(3, 41, 42, 3).with(func(o *Op) { o.ID = 999 })}, want: []Rule{OneHistory}},
		{name: "another number", more: []Op{write(1, 31, 40, 4)}, end: append(upTo(3), Entry{4, 105}, Entry{5, 104}), want: []Rule{OneHistory, NoSurprise}},
		{name: "a hole", more: []Op{unknown(1, 31, 40, 105)}, end: append(upTo(3), Entry{5, 105}), want: []Rule{OneHistory}},
		{name: "twice", end: append(upTo(3), Entry{4, 103}), want: []Rule{AtMostOnce}},
		{name: "unknown and done", more: []Op{unknown(2, 31, 40, 104), read(3, 41, 42, 4)}, end: upTo(4)},
		{name: "unknown and not done", more: []Op{unknown(2, 31, 40, 104), read(3, 41, 42, 3)}},
		{name: "unknown, and done before it was sent", more: []Op{unknown(2, 41, 50, 104), write(1, 31, 40, 5)}, end: upTo(5), want: []Rule{Linearizable}},
		{name: "refused and done", more: []Op{write(2, 31, 40, 4).told(claims.Refused, "40001")}, end: upTo(4), want: []Rule{NoSurprise}},
		{name: "nobody asked", end: upTo(4), want: []Rule{NoSurprise}},
		{name: "an old position", more: []Op{write(1, 31, 40, 4).with(func(o *Op) { o.At = mark(1, 2) })}, end: upTo(4), want: []Rule{Positions}},
		{name: "an old epoch", more: []Op{write(1, 31, 40, 4).with(func(o *Op) { o.At = mark(0, 4) })}, end: upTo(4), want: []Rule{Positions}},
		{name: "no position", more: []Op{write(1, 31, 40, 4).with(func(o *Op) { o.At = "" })}, end: upTo(4), want: []Rule{Positions}},
		{name: "a block", more: []Op{read(2, 31, 32, 3).block(1), read(2, 31, 34, 3).block(1), write(2, 35, 40, 4).block(1), read(2, 41, 42, 4)}, end: upTo(4)},
		{name: "a block that sees others", more: []Op{read(2, 31, 32, 2).block(1), read(2, 31, 34, 3).block(1)}, want: []Rule{OneSnapshot}},
		{
			name: "a block that others write into", more: []Op{read(2, 31, 32, 3).block(1), write(3, 33, 34, 4), write(2, 35, 40, 5).block(1)},
			end: upTo(5), want: []Rule{OneSnapshot},
		},
		{name: "lost connection", more: []Op{unknown(1, 31, 40, 104).with(func(o *Op) { o.Lost, o.Code = true, "" })}, want: []Rule{ClearAnswers}},
		{name: "lost connection to a dead node", more: []Op{unknown(1, 31, 40, 104).with(func(o *Op) { o.Lost, o.Code = true, "" })}, out: []Outage{{"n1", 39 * ms, 0}}},
		{
			name: "lost connection to another dead node", more: []Op{unknown(1, 31, 40, 104).with(func(o *Op) { o.Lost, o.Code = true, "" })},
			out: []Outage{{"n2", 39 * ms, 0}, {"n1", 0, 30 * ms}, {"n1", 41 * ms, 0}}, want: []Rule{ClearAnswers},
		},
		{name: "an unclear code", more: []Op{unknown(1, 31, 40, 104).with(func(o *Op) { o.Code = "57P01" })}, want: []Rule{ClearAnswers}},
		{name: "a block before its COMMIT", more: []Op{write(1, 31, 40, 0).block(1).told(claims.Refused, "08007").with(func(o *Op) { o.ID = 104 })}, want: []Rule{ClearAnswers}},
		{name: "a follower that does not hand on", more: []Op{write(1, 31, 40, 0).told(claims.Refused, "25006").with(func(o *Op) { o.ID = 104 })}, want: []Rule{AnyNode}},
		{name: "silence", more: []Op{unknown(1, 31, 9999, 104).with(func(o *Op) { o.Hung, o.Code = true, "" })}, want: []Rule{Answers}},
		{name: "silence to a read", more: []Op{read(1, 31, 9999, 0).told(claims.Refused, "").with(func(o *Op) { o.Hung = true })}, want: []Rule{Answers}},
		{name: "no eventual read", more: []Op{read(1, 31, 40, 0).level(Eventual).told(claims.Refused, "57P03")}, want: []Rule{ReadsGoOn}},
		{name: "no eventual read in a block that is the leader's", more: []Op{read(1, 31, 40, 0).level(Eventual).block(1).with(func(o *Op) { o.Writes = true }).told(claims.Refused, "57P03")}},
		{name: "no eventual read in a block that only reads", more: []Op{read(1, 31, 40, 0).level(Eventual).block(1).told(claims.Refused, "57P03")}, want: []Rule{ReadsGoOn}},
		{name: "a block that only reads ends with the node's role", more: []Op{read(1, 31, 40, 0).level(Eventual).block(1).told(claims.Refused, "40001")}},
		{name: "an eventual read that waits for a position", more: []Op{connect(1, 31, Commit), read(1, 32, 40, 0).level(Eventual).told(claims.Refused, "57014")}},
		{name: "one that does not any more", more: []Op{
			connect(1, 31, Commit), read(1, 32, 40, 3), read(1, 41, 50, 0).level(Eventual).told(claims.Refused, "57014"),
		}, want: []Rule{ReadsGoOn}},
		{name: "no eventual read of a dead node", more: []Op{read(1, 31, 40, 0).level(Eventual).told(claims.Refused, "57P03")}, out: []Outage{{"n1", 0, 50 * ms}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.end == nil {
				test.end = upTo(3)
			}
			found := Judge(History{slices.Concat(begun, test.more), test.out}, test.end)
			var got []Rule
			for _, v := range found {
				if !slices.Contains(got, v.Rule) {
					got = append(got, v.Rule)
				}
			}
			slices.Sort(got)
			slices.Sort(test.want)
			if !slices.Equal(got, test.want) {
				t.Errorf("found %q, want %q", found, test.want)
			}
		})
	}
}

// simulated is a cluster that keeps its word, or does not: whose nodes lag behind the leader by chance, and let sessions read when they
// have what the sessions need.
type simulated struct {
	random  *rand.Rand
	forgets Rule // what it does not look at
	now     time.Duration
	acked   []time.Duration // when each number was
	applied map[string]Number
	floor   map[int]Number
	keys    map[string]Number
	h       History
}

func (s *simulated) step() {
	s.now += time.Duration(1+s.random.IntN(4)) * ms
	node := fmt.Sprintf("n%d", 1+s.random.IntN(3))
	head := Number(len(s.acked))
	s.applied[node] += Number(s.random.Int64N(int64(head-s.applied[node]) + 1))
	o := Op{Session: s.random.IntN(4), Node: node, Level: Level(s.random.IntN(4)), Bound: 10 * ms, Sent: s.now, Outcome: claims.Acknowledged}
	if s.random.IntN(2) == 0 {
		o.Key = []string{"a", "b"}[s.random.IntN(2)]
	}
	s.now += ms
	o.Told = s.now
	if o.Action = Action(s.random.IntN(2)); o.Action == Write {
		s.write(&o)
	} else {
		s.read(&o)
	}
	if s.forgets != OwnWrites || o.Action == Read {
		s.floor[o.Session] = max(s.floor[o.Session], o.Number)
	}
	s.h.Ops = append(s.h.Ops, o)
}

func (s *simulated) write(o *Op) {
	s.acked = append(s.acked, o.Told)
	o.Number = Number(len(s.acked))
	o.ID, o.At = ID(100+o.Number), mark(1, o.Number)
	if o.Key != "" && s.forgets != Causal {
		s.keys[o.Key] = o.Number
	}
}

func (s *simulated) read(o *Op) {
	need := max(s.floor[o.Session], s.keys[o.Key])
	for n, at := range s.acked {
		if o.Level == Strong && s.forgets != Linearizable || o.Level == Bounded && s.forgets != Staleness && at < o.Sent-o.Bound {
			need = max(need, Number(n+1))
		}
	}
	if o.Level == Eventual || s.forgets == Monotonic && s.random.IntN(4) == 0 {
		need = 0
	}
	if o.Number = max(need, s.applied[o.Node]); o.Number > 0 {
		o.ID = ID(100 + o.Number)
	}
}

// A cluster that keeps its word is never blamed, and each way to break it is noticed.
func TestJudgeOfSimulatedClusters(t *testing.T) {
	const runs, steps = 20, 600
	for _, forgets := range []Rule{"", OwnWrites, Monotonic, Causal, Staleness, Linearizable} {
		t.Run(string(forgets), func(t *testing.T) {
			noticed := 0
			for seed := range uint64(runs) {
				s := &simulated{
					random: rand.New(rand.NewPCG(seed, 1)), forgets: forgets,
					applied: map[string]Number{}, floor: map[int]Number{}, keys: map[string]Number{},
				}
				for range steps {
					s.step()
				}
				for _, v := range Judge(s.h, upTo(Number(len(s.acked)))) {
					if forgets == "" {
						t.Fatalf("seed %d: %v", seed, v)
					}
					if v.Rule == forgets {
						noticed++
						break
					}
				}
			}
			if forgets != "" && noticed < runs {
				t.Errorf("noticed in %d of %d runs", noticed, runs)
			}
		})
	}
}
