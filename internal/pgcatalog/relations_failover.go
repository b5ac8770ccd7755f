package pgcatalog

import (
	"skein/internal/failover"
	"skein/internal/history"
	"skein/internal/overview"

	"github.com/ncruces/go-sqlite3"
)

// failoverRelations show a cluster that appoints its leader; elsewhere they are empty. What the node that is
// asked cannot know is NULL.
func failoverRelations() []relation {
	return []relation{
		{"skein_members", 12904, "name text, node_id text, role text, state text, epoch int8, head_lsn pg_lsn, flushed_lsn pg_lsn, visible_lsn pg_lsn, behind int8, silence_ms float8, synchronous bool, eligible bool, reason text, priority int4, attributes text, address text, peer_address text", memberRows},
		{"skein_history", 12905, "at timestamptz, kind text, epoch int8, node text, lsn pg_lsn, took_ms float8, event text", historyRows},
	}
}

func memberRows(b *rowBuilder) {
	f := b.sess().Cluster().Failover()
	if f == nil {
		return
	}
	for _, m := range overview.Of(observe(b.conn.GetInterrupt(), f)).Members {
		b.add(m.Name, string(m.ID), string(m.Role), m.State, known(m.Epoch), knownLSN(m.Head), knownLSN(m.Flushed), knownLSN(m.Visible), known(m.Behind),
			knownTime(m.Silence), m.Synchronous, m.Eligible, optional(m.Why), m.Priority, optional(m.Attributes), optional(m.Address), m.PeerAddress)
	}
}

// known is NULL for what is not.
func known[T ~uint64 | ~int64](v *T) any {
	if v == nil {
		return nil
	}
	return int64(*v)
}

func knownTime(ms *float64) any {
	if ms == nil {
		return nil
	}
	return *ms
}

func knownLSN(l *history.LSN) any {
	if l == nil {
		return nil
	}
	return lsn(*l)
}

func historyRows(b *rowBuilder) {
	f := b.sess().Cluster().Failover()
	if f == nil {
		return
	}
	for _, e := range f.History() {
		b.add(when(e.At), string(e.Kind), int64(e.Epoch), optional(e.Node), optional(shownLSN(e.Position.LSN)), tookOf(e), e.Text)
	}
}

// tookOf is NULL for what has no duration.
func tookOf(e failover.Event) any {
	if e.Took == 0 {
		return nil
	}
	return milliseconds(e.Took)
}

const failoverCheckColumns = "node text, node_id text, winner bool, eligible bool, reason text, epoch int8, lsn pg_lsn_text, behind int8"

// openFailoverCheck is skein_failover_check: who would lead if the leader died now, and why not the others. It
// changes nothing.
func openFailoverCheck(cat *catalog, _ []sqlite3.Value) (rowSource, error) {
	f, err := cat.failover()
	if err != nil {
		return nil, err
	}
	o := overview.Of(observe(cat.conn.GetInterrupt(), f))
	rows := &valueRows{at: -1}
	for _, m := range o.Members {
		if m.Role == overview.Witness || m.Name == o.Leader {
			continue
		}
		rows.rows = append(rows.rows, []any{
			m.Name, string(m.ID), m.Name == o.Heir, m.Eligible, optional(m.Why), known(m.Epoch), knownLSN(m.Head), known(m.Behind),
		})
	}
	return rows, nil
}
