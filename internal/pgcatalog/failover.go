package pgcatalog

import (
	"context"
	"time"

	"skein/internal/failover"
	"skein/internal/overview"
	"skein/internal/sqlstate"
)

// observeWait is how long the coordinator may take to say what it knows. A node that has lost it answers for itself then.
const observeWait = time.Second

// Failover is what SQL may ask of, and do to, a cluster that appoints its leader. It is called by many
// sessions at a time. What it returns is not to be changed.
type Failover interface {
	// Self is this node.
	Self() failover.NodeID
	// State is the newest that this node knows; its Version is 0 if there is none yet.
	State() failover.State
	// Report is what this node says of itself.
	Report() failover.Report
	// Observe asks the coordinator. With an error it could not be asked: what it is is for people.
	Observe(ctx context.Context) (failover.State, failover.Facts, error)
	// Do has the coordinator carry a command out. It returns when the State that comes of it is committed. The error
	// is a *Refused if the cluster does not; with any other it is unknown whether it does.
	Do(ctx context.Context, c failover.Command) (failover.State, error)
	// History is as much of it as this node knows, the oldest event first.
	History() []failover.Event
}

// errByHand refuses what only a cluster can do that appoints its leader.
func errByHand() error {
	return sqlstate.New(sqlstate.NotInRequiredState, "this node's leader is set by configuration (--follow); nobody else can be appointed").
		WithHint("A node started with --bootstrap, which keeps its data, begins a cluster that appoints its leader; others enter it with --join.")
}

// failover gives the node's, or an error that says that its leader is set by configuration.
func (cat *catalog) failover() (Failover, error) {
	if f := cat.sess().Cluster().Failover(); f != nil {
		return f, nil
	}
	return nil, errByHand()
}

// observe gives what this node and, if it can be asked, the coordinator know.
func observe(ctx context.Context, f Failover) overview.Source {
	asking, cancel := context.WithTimeout(ctx, observeWait)
	defer cancel()
	s, facts, err := f.Observe(asking)
	if err == nil {
		return overview.Source{Self: f.Self(), State: s, Facts: facts}
	}
	return overview.Source{
		Self: f.Self(), State: f.State(), Blind: err.Error(),
		Facts: failover.Facts{Now: time.Now(), Nodes: []failover.Observation{{Report: f.Report()}}},
	}
}

// ChangeSetting has the cluster keep another value of one of its settings. f is nil where the leader is set by configuration.
func ChangeSetting(ctx context.Context, f Failover, by, name, value string) error {
	if f == nil {
		return errByHand()
	}
	asking, cancel := context.WithTimeout(ctx, commandWait)
	defer cancel()
	cmd := overview.SettingCommand(name, value)
	cmd.By = by
	_, err := f.Do(asking, cmd)
	return commandError(ctx, err)
}

// Refused is the cluster's answer to a command that it does not carry out: why, and what would do.
type Refused struct{ Reason string }

// Error gives the reason.
func (r *Refused) Error() string { return r.Reason }
