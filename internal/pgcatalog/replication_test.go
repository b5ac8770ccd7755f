package pgcatalog

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/history"
	"skein/internal/sqlstate"
)

// fakeReplication is a node of a small cluster; what is done to it is noted.
type fakeReplication struct {
	node     Node
	replicas []Replica
	receiver *Receiver
	slots    []Slot
	risk     AtRisk
	verified []Verified
	slotErr  error
	stale    time.Duration // negative: not known
	done     []string
	begun    func() // called by Verify
}

func (r *fakeReplication) Node() Node          { return r.node }
func (r *fakeReplication) Replicas() []Replica { return r.replicas }
func (r *fakeReplication) Slots() []Slot       { return r.slots }
func (r *fakeReplication) Staleness() (time.Duration, bool) {
	return r.stale, r.stale >= 0
}
func (r *fakeReplication) AtRisk() AtRisk        { return r.risk }
func (r *fakeReplication) DropSlot(string) error { return r.slotErr }
func (r *fakeReplication) Receiver() (Receiver, bool) {
	if r.receiver == nil {
		return Receiver{}, false
	}
	return *r.receiver, true
}

func (r *fakeReplication) CreateSlot(name string, reserve bool) (history.LSN, error) {
	r.done = append(r.done, "create "+name)
	if !reserve {
		return 0, r.slotErr
	}
	return 42, r.slotErr
}

func (r *fakeReplication) PauseApply(pause bool) {
	r.node.Pause = NotPaused
	if pause {
		r.node.Pause = PauseRequested
	}
}

func (r *fakeReplication) Verify(ctx context.Context) ([]Verified, error) {
	if r.begun != nil {
		r.begun()
	}
	return r.verified, ctx.Err()
}

// replicatedCluster is a cluster with replication, a leader or a follower.
type replicatedCluster struct {
	fakeCluster
	replication Replication
	failover    Failover
	follower    bool
}

func (c replicatedCluster) InRecovery() bool         { return c.follower }
func (c replicatedCluster) Replication() Replication { return c.replication }
func (c replicatedCluster) Failover() Failover       { return c.failover }

type replicatedSession struct {
	*fakeSession
	cluster replicatedCluster
	user    string
}

func (s *replicatedSession) Cluster() Cluster { return s.cluster }
func (s *replicatedSession) User() string     { return s.user }

// replicated opens a connection on a node with replication.
func replicated(t *testing.T, r Replication, follower bool) (query func(sql string, want ...string), refused func(sql string, code sqlstate.Code, text string), s *replicatedSession) {
	t.Helper()
	db, fake := testDB(t)
	s = &replicatedSession{fake, replicatedCluster{replication: r, follower: follower}, "postgres"}
	if err := Register(db, func() Session { return s }); err != nil {
		t.Fatal(err)
	}
	query = func(sql string, want ...string) {
		t.Helper()
		if got := rows(t, db, sql); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: got\n%s\nwant\n%s", sql, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	refused = func(sql string, code sqlstate.Code, text string) {
		t.Helper()
		fake.err = nil
		if _, err := tryRows(db, sql); err == nil || fake.err == nil || fake.err.Code != code || !strings.Contains(fake.err.Message, text) {
			t.Errorf("%s: error %v, %v, want %s with %q", sql, err, fake.err, code, text)
		}
	}
	return query, refused, s
}

var noon = time.Date(2024, 2, 29, 12, 0, 0, 250000000, time.UTC)

func streamingReplica() Replica {
	return Replica{
		Name: "node2", NodeID: "b2", Connected: true, PID: 77, ClientAddr: "127.0.0.1", ClientPort: 4711, Since: noon, State: "streaming",
		Sent: 0x1_0000_002a, Received: 41, Flushed: 40, Applied: 39,
		WriteLag: Lag{Bytes: 100, Entries: 1, Time: 1500 * time.Microsecond}, FlushLag: Lag{Bytes: 200, Entries: 2, Time: 2 * time.Millisecond},
		ReplayLag: Lag{Bytes: 300, Entries: 3, Time: 90 * time.Second}, Reason: "apply", SyncPriority: 1, SyncState: "quorum", LastReply: noon,
	}
}

func TestFollowersOfALeaderAreShown(t *testing.T) {
	gone := Replica{Name: "node3", NodeID: "c3", Since: noon, Flushed: 7, FlushLag: Lag{Bytes: 5000, Entries: 50, Time: time.Minute}, Reason: "network"}
	query, _, _ := replicated(t, &fakeReplication{replicas: []Replica{streamingReplica(), gone}, risk: AtRisk{3, 999, 4200 * time.Microsecond}}, false)

	query("SELECT * FROM pg_stat_replication",
		"77|10|postgres|node2|127.0.0.1|NULL|4711|2024-02-29 12:00:00.25|NULL|streaming|1/2A|0/29|0/28|0/27|00:00:00.0015|00:00:00.002|00:01:30|1|quorum|2024-02-29 12:00:00.25")
	query("SELECT name, connected, state, sync_state, reason, write_lag_bytes, write_lag_entries, write_lag_ms, flush_lag_bytes, flush_lag_ms, replay_lag_entries, replay_lag_ms, last_reply FROM skein_replication",
		"node2|1|streaming|quorum|apply|100|1|1.5|200|2|3|90000|2024-02-29 12:00:00.25",
		"node3|0|NULL|NULL|network|0|0|0|5000|60000|0|0|NULL")
	query("SELECT * FROM skein_at_risk", "3|999|4.2")
}

func TestColumnsArePostgres15s(t *testing.T) {
	query, _, _ := replicated(t, nil, false)
	for view, want := range map[string]string{
		"pg_stat_replication":  "pid,usesysid,usename,application_name,client_addr,client_hostname,client_port,backend_start,backend_xmin,state,sent_lsn,write_lsn,flush_lsn,replay_lsn,write_lag,flush_lag,replay_lag,sync_priority,sync_state,reply_time",
		"pg_stat_wal_receiver": "pid,status,receive_start_lsn,receive_start_tli,written_lsn,flushed_lsn,received_tli,last_msg_send_time,last_msg_receipt_time,latest_end_lsn,latest_end_time,slot_name,sender_host,sender_port,conninfo",
		"pg_replication_slots": "slot_name,plugin,slot_type,datoid,database,temporary,active,active_pid,xmin,catalog_xmin,restart_lsn,confirmed_flush_lsn,wal_status,safe_wal_size,two_phase",
	} {
		query("SELECT group_concat(name) FROM pragma_table_info('"+view+"')", want)
	}
}

// What is added has as many values as there are columns: a row that is short reads as NULLs.
func TestRowsOfReplicationAreWhole(t *testing.T) {
	b := func(r Replication) *rowBuilder {
		s := &replicatedSession{&fakeSession{}, replicatedCluster{replication: r}, "postgres"}
		return &rowBuilder{catalog: &catalog{session: func() Session { return s }}}
	}
	full := &fakeReplication{replicas: []Replica{streamingReplica()}, receiver: &Receiver{}, slots: []Slot{{Name: "a"}}}
	for _, r := range replicationRelations() {
		b := b(full)
		r.rows(b)
		if len(b.rows) != 1 || len(b.rows[0]) != len(r.fields()) {
			t.Errorf("%s: %d rows, the first has not %d values", r.name, len(b.rows), len(r.fields()))
		}
	}
}

func TestReceiverAndSlotsAreShown(t *testing.T) {
	r := &fakeReplication{
		receiver: &Receiver{PID: 9, Status: "streaming", Host: "10.0.0.1", Port: 7432, StartLSN: 1, StartEpoch: 2, Epoch: 3, Received: 12, Flushed: 11, LatestEnd: 13, SentAt: noon, ReceivedAt: noon, Slot: "node2"},
		slots: []Slot{
			{Name: "node2", Active: true, PID: 77, Restart: 40, Reserved: true, Status: "reserved", SafeBytes: 1000},
			{Name: "node3", Restart: 7, Reserved: true, Status: "lost", SafeBytes: 5},
			{Name: "unused", SafeBytes: -1},
		},
	}
	query, _, _ := replicated(t, r, true)
	query("SELECT * FROM pg_stat_wal_receiver",
		"9|streaming|0/1|2|0/C|0/B|3|2024-02-29 12:00:00.25|2024-02-29 12:00:00.25|0/D|2024-02-29 12:00:00.25|node2|10.0.0.1|7432|NULL")
	query("SELECT slot_name, slot_type, active, active_pid, restart_lsn, wal_status, safe_wal_size FROM pg_replication_slots",
		"node2|physical|1|77|0/28|reserved|1000", "node3|physical|0|NULL|0/7|lost|NULL", "unused|physical|0|NULL|NULL|NULL|NULL")
}

func TestNodeWithoutReplicationStandsAlone(t *testing.T) {
	query, refused, _ := replicated(t, nil, false)
	query("SELECT role, mode, head_lsn, visible_lsn, upstream FROM skein_status", "leader|asynchronous|1/2A|1/2A|NULL")
	query("SELECT count(*) FROM pg_stat_replication", "0")
	query("SELECT count(*) FROM pg_stat_wal_receiver", "0")
	query("SELECT * FROM skein_at_risk", "0|0|0")
	query("SELECT pg_current_wal_lsn()", "1/2A")
	refused("SELECT pg_create_physical_replication_slot('a')", sqlstate.NotInRequiredState, "no part in replication")
	refused("SELECT * FROM skein_verify", sqlstate.NotInRequiredState, "no part in replication")
}

func TestPositionsOfALeader(t *testing.T) {
	r := &fakeReplication{node: Node{Role: Leader, Head: 12, Flushed: 11, Committed: 10, Visible: 9, LastReplayed: noon}}
	query, refused, _ := replicated(t, r, false)
	query("SELECT pg_is_in_recovery(), pg_current_wal_insert_lsn(), pg_current_wal_lsn(), pg_current_wal_flush_lsn()", "0|0/C|0/C|0/B")
	query("SELECT pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(), pg_last_xact_replay_timestamp()", "NULL|NULL|NULL")
	query("SELECT pg_reload_conf()", "1")
	for _, f := range []string{"pg_wal_replay_pause", "pg_wal_replay_resume", "pg_is_wal_replay_paused", "pg_get_wal_replay_pause_state", "pg_promote"} {
		refused("SELECT "+f+"()", "55000", "recovery is not in progress")
	}
}

func TestPositionsOfAFollower(t *testing.T) {
	r := &fakeReplication{node: Node{Role: Follower, Upstream: "127.0.0.1:7432", Epoch: 3, Head: 12, Flushed: 11, Committed: 10, Applied: 9, Visible: 8, LastReplayed: noon, Pause: NotPaused, Mode: "asynchronous"}}
	query, refused, _ := replicated(t, r, true)
	query("SELECT pg_is_in_recovery(), pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(), pg_last_xact_replay_timestamp()", "1|0/B|0/8|2024-02-29 12:00:00.25")
	r.stale = 12345 * time.Microsecond
	query("SELECT skein_staleness()", "12.345")
	r.stale = -1
	query("SELECT skein_staleness()", "NULL")
	for _, f := range []string{"pg_current_wal_lsn", "pg_current_wal_insert_lsn", "pg_current_wal_flush_lsn"} {
		refused("SELECT "+f+"()", "55000", "recovery is in progress")
	}
	query("SELECT role, upstream, epoch, applied_lsn FROM skein_status", "follower|127.0.0.1:7432|3|0/9")

	query("SELECT pg_is_wal_replay_paused(), pg_get_wal_replay_pause_state()", "0|not paused")
	query("SELECT pg_wal_replay_pause()", "")
	query("SELECT pg_is_wal_replay_paused(), pg_get_wal_replay_pause_state()", "1|pause requested")
	query("SELECT pg_wal_replay_resume()", "")
	query("SELECT pg_is_wal_replay_paused()", "0")
}

func TestSlotsAreMadeAndDropped(t *testing.T) {
	r := &fakeReplication{}
	query, refused, s := replicated(t, r, false)
	query("SELECT pg_create_physical_replication_slot('a')", "(a,)")
	query("SELECT pg_create_physical_replication_slot('a', 1)", "(a,0/2A)")
	query("SELECT * FROM pg_create_physical_replication_slot('a', 1)", "a|0/2A")
	query("SELECT lsn FROM pg_create_physical_replication_slot('a')", "NULL")
	query("SELECT pg_drop_replication_slot('a')", "")
	query("SELECT count(*) FROM pg_create_physical_replication_slot(NULL)", "0")
	if got := len(r.done); got != 4 {
		t.Errorf("%d slots were made for 4 calls: %v", got, r.done)
	}
	refused("SELECT pg_create_physical_replication_slot('Bad-name')", sqlstate.InvalidName, "Bad-name")
	refused("SELECT pg_create_physical_replication_slot('a', 0, 1)", sqlstate.FeatureNotSupported, "temporary")
	for err, code := range map[error]sqlstate.Code{ErrSlotExists: "42710", ErrNoSlot: "42704", ErrSlotActive: "55006", errors.New("disk"): "XX000"} {
		r.slotErr = err
		refused("SELECT pg_create_physical_replication_slot('a')", code, "")
		refused("SELECT * FROM pg_create_physical_replication_slot('a')", code, "")
		refused("SELECT pg_drop_replication_slot('a')", code, "")
	}

	s.user = "app" // no superuser
	r.done = nil
	for _, call := range []string{"pg_create_physical_replication_slot('a')", "pg_drop_replication_slot('a')", "pg_reload_conf()", "pg_promote()", "pg_wal_replay_pause()"} {
		refused("SELECT "+call, sqlstate.InsufficientPrivilege, "")
	}
	refused("SELECT * FROM skein_verify", sqlstate.InsufficientPrivilege, "")
	if len(r.done) > 0 {
		t.Error("refused and done:", r.done)
	}
}

func TestVerifyNamesWhatItFinds(t *testing.T) {
	r := &fakeReplication{verified: []Verified{
		{Node: "node1", NodeID: "a", Database: 1, LSN: 42, Pages: 3, Checksum: 0xabc, Result: "ok"},
		{Node: "node2", NodeID: "b", Database: 2, LSN: 42, Pages: 3, Damaged: 2, Repaired: 1, Result: "damaged", Detail: "pages 2, 3"},
		{Node: "node2", NodeID: "b", Database: 9, LSN: 42, Result: "ok"},
		{Node: "node3", Result: "unreachable"},
	}}
	query, _, _ := replicated(t, r, false)
	query("SELECT * FROM skein_verify()",
		"node1|a|(system)|0/2A|3|0000000000000abc|0|0|ok|NULL",
		"node2|b|postgres|0/2A|3|0000000000000000|2|1|damaged|pages 2, 3",
		"node2|b|(number 9)|0/2A|0|0000000000000000|0|0|ok|NULL",
		"node3||NULL|NULL|0|0000000000000000|0|0|unreachable|NULL")
}

func TestDifferenceOfPositionsCountsEntries(t *testing.T) {
	query, refused, _ := replicated(t, nil, false)
	query("SELECT pg_wal_lsn_diff('1/0', '0/FFFFFFFF'), pg_wal_lsn_diff('0/1', '0/A'), pg_wal_lsn_diff('FFFFFFFF/FFFFFFFF', '0/0'), pg_wal_lsn_diff(NULL, '0/0')",
		"1|-9|18446744073709551615|NULL")
	refused("SELECT pg_wal_lsn_diff('0/1', 'x')", sqlstate.InvalidTextRepresentation, `"x"`)
}

func TestVerifyIsCancelled(t *testing.T) {
	db, _ := testDB(t)
	r := &fakeReplication{}
	s := &replicatedSession{&fakeSession{}, replicatedCluster{replication: r}, "postgres"}
	if err := Register(db, func() Session { return s }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	db.SetInterrupt(ctx)
	stmt, _, err := db.Prepare("SELECT * FROM skein_verify")
	if err != nil {
		t.Fatal(err)
	}
	defer stmt.Close()
	r.begun = cancel
	if stmt.Step() || !errors.Is(stmt.Err(), sqlite3.INTERRUPT) {
		t.Error("not interrupted:", stmt.Err())
	}
}
