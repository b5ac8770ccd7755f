package pgcatalog

import (
	"time"

	"skein/internal/history"
)

// replicationRelations show the streaming between nodes. The first three have PostgreSQL's columns;
// those of Skein's own say what these cannot: a lag in bytes, entries and milliseconds that is never
// NULL while there is a connection, what a follower lags for, and what is at risk.
func replicationRelations() []relation {
	return []relation{
		{"pg_stat_replication", 12229, "pid int4, usesysid oid, usename name, application_name text, client_addr text, client_hostname text, client_port int4, backend_start timestamptz, backend_xmin xid, state text, sent_lsn pg_lsn, write_lsn pg_lsn, flush_lsn pg_lsn, replay_lsn pg_lsn, write_lag interval, flush_lag interval, replay_lag interval, sync_priority int4, sync_state text, reply_time timestamptz", statReplicationRows},
		{"pg_stat_wal_receiver", 12238, "pid int4, status text, receive_start_lsn pg_lsn, receive_start_tli int4, written_lsn pg_lsn, flushed_lsn pg_lsn, received_tli int4, last_msg_send_time timestamptz, last_msg_receipt_time timestamptz, latest_end_lsn pg_lsn, latest_end_time timestamptz, slot_name text, sender_host text, sender_port int4, conninfo text", walReceiverRows},
		{"pg_replication_slots", 12264, "slot_name name, plugin name, slot_type text, datoid oid, database name, temporary bool, active bool, active_pid int4, xmin xid, catalog_xmin xid, restart_lsn pg_lsn, confirmed_flush_lsn pg_lsn, wal_status text, safe_wal_size int8, two_phase bool", slotRows},
		{"skein_status", 12900, "node text, node_id text, role text, upstream text, epoch int8, mode text, acknowledged_alone int8, head_lsn pg_lsn, flushed_lsn pg_lsn, committed_lsn pg_lsn, applied_lsn pg_lsn, visible_lsn pg_lsn, lag_bytes int8, lag_entries int8, lag_ms float8, last_replay timestamptz, replay_pause text, min_apply_delay_ms int8, log_bytes int8, problem text", skeinStatusRows},
		{"skein_replication", 12901, "name text, node_id text, connected bool, state text, sync_state text, sync_priority int4, reason text, client_addr text, client_port int4, since timestamptz, sent_lsn pg_lsn, write_lsn pg_lsn, flush_lsn pg_lsn, replay_lsn pg_lsn, write_lag_bytes int8, write_lag_entries int8, write_lag_ms float8, flush_lag_bytes int8, flush_lag_entries int8, flush_lag_ms float8, replay_lag_bytes int8, replay_lag_entries int8, replay_lag_ms float8, snapshot_done_bytes int8, snapshot_total_bytes int8, snapshot_bytes_per_second int8, last_reply timestamptz", skeinReplicationRows},
		{"skein_at_risk", 12902, "commits int8, bytes int8, milliseconds float8", atRiskRows},
	}
}

// statReplicationRows lists, as PostgreSQL does, only followers that are connected.
func statReplicationRows(b *rowBuilder) {
	for _, r := range b.replication().Replicas() {
		if !r.Connected {
			continue
		}
		b.add(int64(r.PID), bootstrapRole, b.bootstrapName(), r.Name, optional(r.ClientAddr), nil, r.ClientPort, when(r.Since), nil, r.State,
			lsn(r.Sent), lsn(r.Received), lsn(r.Flushed), lsn(r.Applied), lasting(r.WriteLag.Time), lasting(r.FlushLag.Time), lasting(r.ReplayLag.Time),
			r.SyncPriority, r.SyncState, when(r.LastReply))
	}
}

func walReceiverRows(b *rowBuilder) {
	r, ok := b.replication().Receiver()
	if !ok {
		return
	}
	var received any // when the upstream's head was last heard of, which every message tells
	if r.LatestEnd > 0 {
		received = when(r.ReceivedAt)
	}
	b.add(int64(r.PID), r.Status, lsn(r.StartLSN), int64(r.StartEpoch), lsn(r.Received), lsn(r.Flushed), int64(r.Epoch), when(r.SentAt), when(r.ReceivedAt),
		lsn(r.LatestEnd), received, optional(r.Slot), optional(r.Host), r.Port, nil)
}

// slotRows: Skein's slots are physical ones that last.
func slotRows(b *rowBuilder) {
	for _, s := range b.replication().Slots() {
		var restart, status, pid, safe any
		if s.Reserved {
			restart, status = lsn(s.Restart), s.Status
		}
		if s.Active {
			pid = int64(s.PID)
		}
		if s.Reserved && s.SafeBytes >= 0 && s.Status != "lost" {
			safe = s.SafeBytes
		}
		b.add(s.Name, nil, "physical", nil, nil, false, s.Active, pid, nil, nil, restart, nil, status, safe, false)
	}
}

func skeinStatusRows(b *rowBuilder) {
	n := b.replication().Node()
	b.add(n.Name, n.ID, string(n.Role), optional(n.Upstream), int64(n.Epoch), n.Mode, n.AcknowledgedAlone,
		lsn(n.Head), lsn(n.Flushed), lsn(n.Committed), lsn(n.Applied), lsn(n.Visible), n.Lag.Bytes, n.Lag.Entries, milliseconds(n.Lag.Time),
		when(n.LastReplayed), string(n.Pause), n.ApplyDelay.Milliseconds(), n.LogBytes, optional(n.Problem))
}

func skeinReplicationRows(b *rowBuilder) {
	for _, r := range b.replication().Replicas() {
		row := []any{
			r.Name, r.NodeID, r.Connected, optional(r.State), optional(r.SyncState), r.SyncPriority, optional(r.Reason), optional(r.ClientAddr), r.ClientPort,
			when(r.Since), lsn(r.Sent), lsn(r.Received), lsn(r.Flushed), lsn(r.Applied),
		}
		for _, lag := range []Lag{r.WriteLag, r.FlushLag, r.ReplayLag} {
			row = append(row, lag.Bytes, lag.Entries, milliseconds(lag.Time))
		}
		b.add(append(row, r.SnapshotDone, r.SnapshotTotal, r.SnapshotRate, when(r.LastReply))...)
	}
}

func atRiskRows(b *rowBuilder) {
	r := b.replication().AtRisk()
	b.add(r.Commits, r.Bytes, milliseconds(r.Time))
}

func lsn(l history.LSN) string { return l.PgLSN() }

// when is a timestamptz, NULL for the zero time.
func when(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return formatTimestamp(micros(t))
}

// lasting is an interval.
func lasting(d time.Duration) string { return interval{micros: d.Microseconds()}.String() }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
