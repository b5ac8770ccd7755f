package clustertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"skein/internal/claims"
	"skein/internal/clustertest/proxy"
	"skein/internal/guarantees"
	"skein/internal/nodetest"
)

// sessions are clients that use every node of a cluster, while its nodes have to suffer.
type sessions struct {
	e *elected
	*guarantees.Clients
}

const (
	sessionCount = 6
	sessionPause = 2 * time.Millisecond
	sessionKeys  = 3
)

func newSessions(e *elected, seed uint64) *sessions {
	e.t.Helper()
	o := guarantees.Options{Sessions: sessionCount, Seed: seed, Keys: sessionKeys, Pause: sessionPause}
	for _, m := range e.members {
		o.Nodes = append(o.Nodes, guarantees.Node{Name: m.name, URL: m.URL("skein")})
	}
	clients, err := guarantees.Start(e.t.Context(), o)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { clients.Stop() })
	return &sessions{e, clients}
}

// progress waits for so many more acknowledged writes.
func (s *sessions) progress(more int) {
	s.e.t.Helper()
	ctx, cancel := context.WithTimeoutCause(s.e.t.Context(), progressWait, errors.New("the cluster does not go on"))
	defer cancel()
	if err := s.AwaitMore(ctx, more); err != nil {
		s.e.stuck(fmt.Errorf("%w\n%s", err, s.Latest()))
	}
}

// kill ends a node, lets the others go on, and starts it again.
func (s *sessions) kill(m *member, meanwhile int) {
	s.e.t.Helper()
	over := s.Outage(m.name)
	m.Kill()
	s.progress(meanwhile)
	m.start()
	over()
}

// pause has a node stand still while the others go on.
func (s *sessions) pause(m *member, meanwhile int) {
	s.e.t.Helper()
	over := s.Outage(m.name)
	m.pause()
	s.progress(meanwhile)
	m.resume()
	over()
}

// check ends the clients and judges what they were told.
func (s *sessions) check() {
	t := s.e.t
	t.Helper()
	h := s.Stop()
	s.e.lead()
	s.e.caughtUp()
	s.e.verify()
	var entries []guarantees.Entry
	for _, m := range s.e.members {
		conn := nodetest.Connect(t, m.Node, "skein")
		have, err := guarantees.Entries(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close(t.Context())
		if entries == nil {
			entries = have
			continue
		}
		if !slices.Equal(have, entries) {
			t.Errorf("%s has %d entries and not the same ones as %s", m.name, len(have), s.e.members[0].name)
		}
	}
	if file := os.Getenv("CLUSTERTEST_HISTORY"); file != "" {
		var b strings.Builder
		for _, o := range h.Ops {
			fmt.Fprintln(&b, o)
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
	found := guarantees.Judge(h, entries)
	for i, v := range found {
		if i == 10 {
			t.Errorf("and %d more", len(found)-i)
			break
		}
		t.Error(v)
	}
	s.linearizable(h, entries)
	s.tell(h)
}

// tell logs what clients were told, by what they asked for.
func (s *sessions) tell(h guarantees.History) {
	count := map[string]int{}
	for _, o := range h.Ops {
		what := o.Action.String()
		if o.Action == guarantees.Read {
			what = o.Level.String() + " " + what
		}
		told := o.Outcome.String()
		if o.Code != "" {
			told += " " + o.Code
		}
		if o.Lost {
			told += " lost"
		}
		count[what+": "+told]++
	}
	for _, what := range slices.Sorted(maps.Keys(count)) {
		s.e.t.Logf("%6d %s", count[what], what)
	}
}

// entryModel is a table of which only the newest number is looked at.
var entryModel = porcupine.Model{
	Init: func() any { return guarantees.Number(0) },
	Step: func(state, input, output any) (bool, any) {
		newest, o := state.(guarantees.Number), input.(guarantees.Op)
		if o.Action == guarantees.Write {
			return o.Number == newest+1, o.Number
		}
		return o.Number == newest, newest
	},
	DescribeOperation: func(input, _ any) string { return input.(guarantees.Op).String() },
}

// linearizable asks another program than ours whether strong reads, on whatever node, and writes are what one machine could have told.
func (s *sessions) linearizable(h guarantees.History, entries []guarantees.Entry) {
	s.e.t.Helper()
	began := time.Now()
	ops := entryOperations(h, entries)
	result := porcupine.CheckOperationsTimeout(entryModel, ops, judgeTime)
	s.e.t.Logf("%d writes and strong reads: %s, judged in %v", len(ops), result, time.Since(began).Round(time.Millisecond))
	if result == porcupine.Illegal {
		s.e.t.Error("writes and strong reads are not what one machine could have told")
	}
}

// entryOperations are writes that have happened, and strong reads that were answered.
func entryOperations(h guarantees.History, entries []guarantees.Entry) (ops []porcupine.Operation) {
	at := map[guarantees.ID]guarantees.Number{}
	for _, e := range entries {
		at[e.ID] = e.Number
	}
	for _, o := range h.Ops {
		op := porcupine.Operation{ClientId: o.Session, Call: int64(o.Sent), Return: int64(o.Told)}
		switch {
		case o.Action == guarantees.Write && o.Outcome == claims.Unknown:
			if o.Number = at[o.ID]; o.Number == 0 {
				continue
			}
			op.Return = math.MaxInt64
		case o.Outcome != claims.Acknowledged:
			continue
		case o.Action == guarantees.Write, o.Action == guarantees.Read && o.Level == guarantees.Strong:
		default:
			continue
		}
		op.Input = o
		ops = append(ops, op)
	}
	return ops
}

// Clients use every node while leaders and followers are killed, are cut off and change places.
func TestGuarantees_I03_I05_AnyNode(t *testing.T) {
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	s := newSessions(e, seed(t))
	s.progress(30)
	for _, suffer := range []func(){
		func() { s.kill(e.lead(), 30) },
		func() { e.switchover("") },
		func() { s.kill(e.other(e.lead()), 30) },
		func() { s.cutOff(e.other(e.lead()), 30) },
	} {
		suffer()
		s.progress(30)
		e.caughtUp()
	}
	s.check()
}

// cutOff has a node hear and reach nobody while the others go on. Clients still reach it.
func (s *sessions) cutOff(m *member, meanwhile int) {
	s.e.t.Helper()
	undo := s.e.network.Drop(proxy.Around(m.name, proxy.Everything)...)
	s.progress(meanwhile)
	undo()
}

// The leader stands still and is replaced, and then goes on where it was.
func TestGuarantees_E02_Zombie(t *testing.T) {
	if !long {
		t.Skip("runs with -tags soak")
	}
	t.Parallel()
	e := newElected(t, 3, "ANY 1 (*)")
	s := newSessions(e, seed(t))
	s.progress(30)
	for range 3 {
		s.pause(e.lead(), 30)
		s.progress(30)
		e.caughtUp()
	}
	s.check()
}
