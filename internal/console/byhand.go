package console

import (
	"context"
	"fmt"
	"strconv"

	"skein/internal/history"
	"skein/internal/overview"
)

const (
	byHandQuery    = "SELECT node, node_id, role, epoch, head_lsn, flushed_lsn, visible_lsn, mode, upstream, problem FROM skein_status"
	followersQuery = "SELECT name, node_id, connected, state, flush_lsn, replay_lsn, flush_lag_entries, sync_state FROM skein_replication"
)

// byHand draws a cluster whose leader is set by configuration, as the node that we are connected to sees it: itself,
// and those that copy from it.
func (c *client) byHand(ctx context.Context) (overview.Overview, error) {
	rows, err := c.query(ctx, answerWait, byHandQuery)
	if err != nil {
		return overview.Overview{}, err
	}
	if len(rows) != 1 {
		return overview.Overview{}, errNotSkein
	}
	followers, err := c.query(ctx, answerWait, followersQuery)
	if err != nil {
		return overview.Overview{}, err
	}
	return byHand(rows[0], followers, c.at), nil
}

func byHand(node []string, followers [][]string, address string) overview.Overview {
	name, role, upstream, problem := node[0], overview.Role(node[2]), node[8], node[9]
	epoch, _ := strconv.ParseUint(node[3], 10, 64)
	o := overview.Overview{Asked: name, Epoch: history.Epoch(epoch), Mode: node[7], ByHand: true, Health: overview.Healthy}
	self := overview.Member{
		Name: name, Role: role, State: "leading", Epoch: &o.Epoch, Head: position(node[4]), Flushed: position(node[5]), Visible: position(node[6]),
		Address: address,
	}
	if role == overview.Leader {
		o.Leader, o.Leads = name, true
	} else {
		self.State = "following " + upstream
		o.Health = overview.Unclear
		o.Problems = append(o.Problems, overview.Problem{What: name + " follows " + upstream + " and does not know how that is", Do: "ask the leader"})
	}
	o.Members = append(o.Members, self)
	for _, f := range followers {
		m := overview.Member{Name: f[0], Role: overview.Follower, State: f[3], Flushed: position(f[4]), Visible: position(f[5]), Synchronous: f[7] == "sync" || f[7] == "quorum"}
		m.Head = m.Flushed
		if behind, err := strconv.ParseInt(f[6], 10, 64); err == nil {
			m.Behind = &behind
		}
		if f[2] != "t" {
			m.Role, m.State = overview.Away, "not connected"
			o.Problems = append(o.Problems, overview.Problem{
				What: m.Name + " is not connected with " + name,
				Do:   fmt.Sprintf("start it; or, if it is gone for good: SELECT pg_drop_replication_slot('%s')", m.Name),
			})
		}
		o.Members = append(o.Members, m)
	}
	if problem != "" {
		o.Problems = append(o.Problems, overview.Problem{What: name + ": " + problem})
	}
	if o.Leads && len(o.Problems) > 0 {
		o.Health = overview.Sick
	}
	return o
}

func position(s string) *history.LSN {
	lsn, err := history.ParseLSN(s)
	if err != nil {
		return nil
	}
	return &lsn
}
