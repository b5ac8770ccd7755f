package node

import (
	"context"
	"errors"
	"slices"
	"sync"

	"skein/internal/commit"
	"skein/internal/failover"
	"skein/internal/history"
)

// errDeposed ends what waits for the cluster's consent to a rule of a leadership that is over.
var errDeposed = errors.New("this node does not lead any more")

// ruling stands between the settings, which say how commits should be acknowledged, and the cluster, which
// must know a rule before the leader goes by it. Where the leader is set by configuration, nobody is asked.
type ruling struct {
	pipeline *commit.Pipeline
	cluster  cluster
	members  func() []failover.Member // nil where nobody is asked

	mu      sync.Mutex
	desired commit.SyncConfig // what the settings say
	known   bool              // desired has been read
	begun   bool              // and by a leader, which reads the newest of what it has inherited
	alone   bool              // this leader asks to go on without its followers
	rule    failover.Rule     // in force; its ID is 0 for none
	from    history.LSN       // head of the log when it came into force
	changed chan struct{}     // closed at the next change of rule
}

func newRuling(p *commit.Pipeline, c cluster, members func() []failover.Member) *ruling {
	return &ruling{pipeline: p, cluster: c, members: members, changed: make(chan struct{})}
}

// desire takes what the settings say.
func (r *ruling) desire(c commit.SyncConfig) {
	r.mu.Lock()
	r.desired, r.known = c, true
	if r.members == nil {
		r.pipeline.Configure(c)
	} else if r.rule.ID != 0 {
		r.pipeline.Configure(r.config())
	}
	r.mu.Unlock()
	r.cluster.tell()
}

// enforce has commits acknowledged by the rule that the cluster has agreed to last.
func (r *ruling) enforce(rule failover.Rule) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.members == nil || r.rule.ID == rule.ID {
		return
	}
	r.rule = rule
	r.pipeline.Configure(r.config())
	r.from = r.pipeline.Log().Received() // after: whatever is appended from now on is acknowledged by the new rule alone
	close(r.changed)
	r.changed = make(chan struct{})
}

// level is the cluster's synchronous_commit.
func (r *ruling) level() commit.Level {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.desired.Level
}

// inForce is the rule that commits are acknowledged by, without an ID if there is none.
func (r *ruling) inForce() failover.Rule {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rule
}

// begin says that desired is what the settings of this leadership say. Before, they are as old as what this node, as a follower,
// had shown its readers: the rule that they ask for may be weaker than the one that the leader of before went by.
func (r *ruling) begin() {
	r.mu.Lock()
	r.begun = true
	r.mu.Unlock()
	r.cluster.tell()
}

// forget is for the end of a leadership.
func (r *ruling) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rule, r.from, r.alone, r.begun = failover.Rule{}, 0, false, false
	close(r.changed)
	r.changed = make(chan struct{})
}

// config is the rule in force as the pipeline takes it; mu is held. It goes by node ids: names change, and what was called so
// yesterday may be another node today, of which the rule knows nothing.
func (r *ruling) config() commit.SyncConfig {
	c := r.desired
	switch {
	case r.rule.Lossy:
		c.Names = commit.StandbyNames{}
	case isAlone(r.rule): // the pipeline knows by itself that it goes on alone, and whom it is to wait for again
		c.Names = require(r.sync(r.members(), everybody))
	default:
		c.Names, c.Bound = require(r.rule.Members, r.rule.K, r.rule.First), true
	}
	return c
}

func require(ids []failover.NodeID, k int, first bool) commit.StandbyNames {
	var keys []string
	for _, id := range ids {
		keys = append(keys, string(id))
	}
	return commit.Require(k, first, keys...)
}

func everybody(failover.Member) bool { return true }

func isAlone(r failover.Rule) bool { return r.K == 0 && !r.Lossy }

// spelled is the rule that the pipeline goes by, for people.
func (r *ruling) spelled(c commit.SyncConfig) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.members == nil:
		return c.Names.String()
	case r.rule.ID == 0:
		return r.desired.Names.String()
	}
	members := r.members()
	ids, k, first := r.rule.Members, r.rule.K, r.rule.First
	if isAlone(r.rule) {
		ids, k, first = r.sync(members, everybody)
	}
	return commit.Require(k, first, names(members, ids)...).String()
}

func names(members []failover.Member, ids []failover.NodeID) []string {
	var all []string
	for _, id := range ids {
		if i := slices.IndexFunc(members, func(m failover.Member) bool { return m.ID == id }); i >= 0 {
			all = append(all, members[i].Name)
		}
	}
	return all
}

// want is the rule that the settings ask for now, nil if it is the newest that the cluster knows. A member counts
// from when it has caught up for the first time: one that never had the data would only be in the way.
func (r *ruling) want(s failover.State, self failover.NodeID, current func(failover.NodeID) bool) *failover.Rule {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.known || !r.begun || len(s.Rules) == 0 {
		return nil
	}
	newest := s.Rules[len(s.Rules)-1]
	w := failover.Rule{Leader: self}
	switch {
	case r.desired.Names.Empty():
		w.Lossy = true
	case !r.alone:
		counts := func(m failover.Member) bool {
			return m.ID != self && !m.Witness && !m.Leaving && (slices.Contains(newest.Members, m.ID) || current(m.ID))
		}
		w.Members, w.K, w.First = r.sync(s.Members, counts)
	}
	if sameRule(w, newest) {
		return nil
	}
	return &w
}

// sync gives the members whose acknowledgements the settings ask for.
func (r *ruling) sync(members []failover.Member, counts func(failover.Member) bool) (ids []failover.NodeID, k int, first bool) {
	var all []string
	byName := map[string]failover.NodeID{}
	for _, m := range members {
		if counts(m) {
			all = append(all, m.Name)
			byName[m.Name] = m.ID
		}
	}
	named, k, first := r.desired.Names.Select(all)
	for _, name := range named {
		ids = append(ids, byName[name])
	}
	return ids, k, first
}

// sameRule compares what two rules ask of whom. Order matters where some are preferred.
func sameRule(a, b failover.Rule) bool {
	if a.Leader != b.Leader || a.K != b.K || a.First != b.First || a.Lossy != b.Lossy {
		return false
	}
	if a.First {
		return slices.Equal(a.Members, b.Members)
	}
	return slices.Equal(slices.Sorted(slices.Values(a.Members)), slices.Sorted(slices.Values(b.Members)))
}

// settled is the newest rule by which everything that this leader ever acknowledged is acknowledged, 0 for none.
func (r *ruling) settled() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rule.ID == 0 {
		return 0
	}
	at := r.pipeline.Log().Flushed.Load()
	if !r.rule.Lossy && !isAlone(r.rule) {
		at = r.pipeline.Backed()
	}
	if at < r.from {
		return 0
	}
	return r.rule.ID
}

// recorder has the cluster know before a leader acknowledges the first commit alone, and when it does so no more. Both
// are written into the database as well.
type recorder struct {
	*ruling
	next func() commit.Recorder
}

// RecordDegraded waits for the cluster's consent: from then on nobody else is promoted without an operator's order. While
// the cluster cannot be asked commits go on waiting.
func (r recorder) RecordDegraded(ctx context.Context, from history.LSN, reason string) error {
	if err := r.goAlone(ctx); err != nil {
		return err
	}
	err := r.next().RecordDegraded(ctx, from, reason)
	if err != nil { // it does not go on alone, so that nobody would ever say that it does not any more
		r.goBack()
	}
	return err
}

// RecordRestored asks the cluster for the old rule again, which is in force already.
func (r recorder) RecordRestored(ctx context.Context, first, last history.LSN, commits int64) error {
	r.goBack()
	return r.next().RecordRestored(ctx, first, last, commits)
}

func (r *ruling) goBack() {
	r.mu.Lock()
	r.alone = false
	r.mu.Unlock()
	r.cluster.tell()
}

func (r *ruling) goAlone(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.members == nil {
		return nil
	}
	if r.rule.ID == 0 { // the next leadership must not begin by asking for this
		return errDeposed
	}
	r.alone = true
	r.cluster.tell()
	for !isAlone(r.rule) || r.rule.ID == 0 {
		if r.rule.ID == 0 || !r.pipeline.Leading() {
			return errDeposed
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		r.mu.Lock()
		if ctx.Err() != nil {
			r.alone = false
			return context.Cause(ctx)
		}
	}
	return nil
}
