package node

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"skein/internal/commit"
	"skein/internal/failover"
	"skein/internal/history"
)

// ruled is a leader whose followers are made up.
type ruled struct {
	*ruling
	pipeline *commit.Pipeline
	members  []failover.Member
}

func rule(t *testing.T, names string) *ruled {
	p, _, err := commit.Open(t.TempDir(), commit.Options{SegmentBytes: 2 << 20, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := p.Close(true); err != nil {
			t.Error(err)
		}
	})
	if err := p.Lead(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	r := &ruled{pipeline: p, members: []failover.Member{{ID: "1", Name: "a"}, {ID: "2", Name: "b"}, {ID: "3", Name: "c"}}}
	r.ruling = newRuling(p, byHand{}, func() []failover.Member { return r.members })
	r.desire(commit.SyncConfig{Names: standbys(t, names), Level: commit.On, Degrade: true})
	return r
}

func standbys(t *testing.T, names string) commit.StandbyNames {
	n, err := commit.ParseStandbyNames(names)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ack is a follower that has everything.
func (r *ruled) ack(as string) {
	at := r.pipeline.Log().Received()
	r.pipeline.Acknowledge(as, commit.Progress{Received: at, Flushed: at, Applied: at})
}

// A rule speaks of members by their ids. Whoever else has come under the name of one, or a name that differs only in case, may
// not speak for it; and a member that was given another name still may.
func TestARuleIsNotAboutNames(t *testing.T) {
	r := rule(t, "ANY 1 (b, c)")
	r.enforce(failover.Rule{ID: 7, Leader: "1", Members: []failover.NodeID{"2", "3"}, K: 1})
	r.ack("b")
	r.ack("4")
	if at := r.pipeline.Visible(); at != 0 || r.settled() != 0 {
		t.Errorf("entry %d is acknowledged by somebody whom the rule does not know", at)
	}
	config, _ := r.pipeline.Sync()
	if got := r.spelled(config); got != "ANY 1 (b, c)" {
		t.Errorf("it is said to be %s", got)
	}
	r.members[1].Name = "x"
	r.ack("2")
	if at := r.pipeline.Visible(); at != r.pipeline.Log().Received() || r.settled() != 7 {
		t.Errorf("with what the member has, up to %d is acknowledged", at)
	}
}

// A leader goes on alone only under a rule that says so: nobody else may lead then.
func TestALeaderIsBoundByARuleThatCountsOnOthers(t *testing.T) {
	r := rule(t, "ANY 1 (*)")
	for i, alone := range []bool{true, false, true} {
		rule := failover.Rule{ID: uint64(i) + 1, Leader: "1"}
		if !alone {
			rule.Members, rule.K = []failover.NodeID{"2"}, 1
		}
		r.enforce(rule)
		if c, _ := r.pipeline.Sync(); c.Bound == alone || c.Names.Empty() {
			t.Errorf("under %+v: %+v", rule, c)
		}
	}
}

// degradations fail to be written.
type degradations struct{ err error }

func (d degradations) RecordDegraded(context.Context, history.LSN, string) error { return d.err }
func (d degradations) RecordRestored(context.Context, history.LSN, history.LSN, int64) error {
	return d.err
}

// Whoever asks to go on alone and then does not must not be taken to do so for ever: nobody else could be promoted.
func TestALeaderThatDoesNotGoOnAloneAfterAllDoesNotAskForIt(t *testing.T) {
	r := rule(t, "ANY 1 (*)")
	s := failover.State{Members: r.members, Rules: []failover.Rule{{ID: 7, Leader: "1", Members: []failover.NodeID{"2", "3"}, K: 1}}}
	wants := func() *failover.Rule {
		return r.want(s, "1", func(failover.NodeID) bool { return true })
	}
	broken := recorder{r.ruling, func() commit.Recorder { return degradations{errors.New("no space left")} }}
	r.begin()
	if err := broken.RecordDegraded(t.Context(), 1, ""); !errors.Is(err, errDeposed) {
		t.Error(err)
	}
	r.enforce(s.Rules[0])
	if w := wants(); w != nil {
		t.Errorf("asked before this leadership, it asks for %+v", w)
	}
	r.enforce(failover.Rule{ID: 8, Leader: "1"})
	if err := broken.RecordDegraded(t.Context(), 1, ""); err == nil {
		t.Error("it was not written down, and nobody heard of that")
	}
	if w := wants(); w != nil {
		t.Errorf("it could not write that down, and asks for %+v", w)
	}
	if err := (recorder{r.ruling, func() commit.Recorder { return degradations{} }}).RecordDegraded(t.Context(), 1, ""); err != nil {
		t.Error(err)
	}
	if w := wants(); w == nil || !isAlone(*w) {
		t.Errorf("alone, it asks for %+v", w)
	}
}

// Settings that a follower has read are as old as what it had shown. A leader asks for nothing by them.
func TestALeaderAsksForNoRuleBeforeItHasReadItsSettings(t *testing.T) {
	r := rule(t, "")
	s := failover.State{Members: r.members, Rules: []failover.Rule{{ID: 7, Leader: "1", Members: []failover.NodeID{"2", "3"}, K: 1}}}
	current := func(failover.NodeID) bool { return true }
	r.enforce(s.Rules[0])
	if w := r.want(s, "1", current); w != nil {
		t.Errorf("it asks for %+v", w)
	}
	r.desire(commit.SyncConfig{Names: standbys(t, "ANY 2 (*)"), Level: commit.On})
	r.begin()
	if w := r.want(s, "1", current); w == nil || w.K != 2 || w.Lossy {
		t.Errorf("it asks for %+v", w)
	}
	r.forget()
	if w := r.want(s, "1", current); w != nil {
		t.Errorf("in its next leadership it asks for %+v", w)
	}
}
