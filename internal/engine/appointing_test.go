package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"skein/internal/failover"
	"skein/internal/pgcatalog"
)

// appointing is a cluster that appoints its leader: this node, alone. Commands are carried out at once.
type appointing struct {
	mu    sync.Mutex
	state failover.State
}

func newAppointing() *appointing {
	return &appointing{state: failover.NewCluster(failover.Member{ID: "a", Name: "node1", Disk: "disk", PeerAddr: "127.0.0.1:7432"})}
}

func (a *appointing) Self() failover.NodeID     { return "a" }
func (a *appointing) Report() failover.Report   { return failover.Report{Node: "a", Incarnation: 1} }
func (a *appointing) History() []failover.Event { return nil }
func (a *appointing) State() failover.State {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}

func (a *appointing) Observe(context.Context) (failover.State, failover.Facts, error) {
	return a.State(), failover.Facts{}, errors.New("nobody coordinates")
}

func (a *appointing) Do(_ context.Context, c failover.Command) (failover.State, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, _, err := c.Apply(a.state, failover.Facts{Now: time.Now()})
	if err != nil {
		return s, &pgcatalog.Refused{Reason: err.Error()}
	}
	a.state = s
	return s, nil
}
