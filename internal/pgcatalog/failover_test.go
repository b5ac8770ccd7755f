package pgcatalog

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"skein/internal/failover"
	"skein/internal/history"
	"skein/internal/overview"
	"skein/internal/sqlstate"
)

// fakeFailover is a cluster of three that is well: a leads, b and c follow, and b is asked. What it is told it does at
// once, as far as failover takes the command.
type fakeFailover struct {
	mu     sync.Mutex
	state  failover.State
	facts  failover.Facts
	events []failover.Event
	asked  []failover.Command
	blind  error // the coordinator cannot be asked
	lost   error // commands get no answer
	// then is what becomes of a command that was taken.
	then func(s *failover.State)
}

func newFakeFailover() *fakeFailover {
	f := &fakeFailover{facts: failover.Facts{Self: "c", Now: noon, Elapsed: time.Hour, Electing: time.Hour, LeaseOver: true}}
	for i, id := range []failover.NodeID{"a", "b", "c"} {
		f.state.Members = append(f.state.Members, failover.Member{
			ID: id, Name: "node" + string(rune('1'+i)), Disk: "disk", PGAddr: "127.0.0.1:543" + string(rune('2'+i)), PeerAddr: "127.0.0.1:743" + string(rune('2'+i)),
		})
		f.facts.Nodes = append(f.facts.Nodes, failover.Observation{
			Report: failover.Report{
				Node: id, Disk: "disk", Incarnation: 1, Seen: 9, Promise: 3, Position: history.Position{Epoch: 3, LSN: 40}, Flushed: 40, Committed: 40,
				Visible: 40, Ready: true, Upstream: "a", Streaming: true,
			},
			Silence: 20 * time.Millisecond,
		})
	}
	leader := &f.facts.Nodes[0]
	leader.Leading, leader.Settled, leader.Upstream, leader.Streaming = 3, 2, "", false
	f.state.Version, f.state.Epoch, f.state.Phase, f.state.Leader, f.state.Settings = 9, 3, failover.Leading, "a", failover.DefaultSettings()
	f.state.Rules = []failover.Rule{{ID: 2, Leader: "a", Epoch: 3, Members: []failover.NodeID{"b", "c"}, K: 1}}
	f.events = []failover.Event{
		{At: noon, Kind: failover.JoinEvent, Epoch: 1, Node: "node2", Text: "node2 joined"},
		{At: noon.Add(time.Second), Kind: failover.PromotionEvent, Epoch: 3, Node: "node1", Position: history.Position{Epoch: 3, LSN: 40}, Took: 431 * time.Millisecond, Text: "node1 leads"},
	}
	return f
}

func (f *fakeFailover) Self() failover.NodeID { return "b" }

func (f *fakeFailover) State() failover.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *fakeFailover) Report() failover.Report { return f.facts.Nodes[1].Report }

func (f *fakeFailover) Observe(context.Context) (failover.State, failover.Facts, error) {
	return f.State(), f.facts, f.blind
}

func (f *fakeFailover) History() []failover.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.events)
}

func (f *fakeFailover) Do(_ context.Context, c failover.Command) (failover.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, c)
	if f.lost != nil {
		return failover.State{}, f.lost
	}
	taken, events, err := c.Apply(f.state, f.facts)
	if err != nil {
		return failover.State{}, &Refused{err.Error()}
	}
	f.state, f.events = taken.Clone(), append(f.events, events...)
	if f.then != nil {
		f.then(&f.state)
	}
	return taken, nil
}

// leads is a change of leader that comes to a good end.
func leads(id failover.NodeID) func(*failover.State) {
	return func(s *failover.State) {
		s.Version++
		s.Epoch++
		s.Phase, s.Leader, s.Switchover, s.Forced = failover.Leading, id, nil, nil
	}
}

// appointed opens a connection on a follower of a cluster that appoints its leader.
func appointed(t *testing.T, f Failover) (query func(sql string, want ...string), refused func(sql string, code sqlstate.Code, text string), s *replicatedSession) {
	t.Helper()
	query, refused, s = replicated(t, nil, true)
	s.cluster.failover = f
	return query, refused, s
}

func TestMembersAreShown(t *testing.T) {
	f := newFakeFailover()
	f.facts.Nodes[2].Position.LSN, f.facts.Nodes[2].Flushed, f.facts.Nodes[2].Visible = 38, 37, 36
	f.state.Members[2].Priority, f.state.Members[2].NeverLeader = -1, true
	query, _, _ := appointed(t, f)
	query("SELECT name, node_id, role, state, epoch, head_lsn, flushed_lsn, visible_lsn, behind, silence_ms, synchronous, eligible, reason, priority, attributes, address, peer_address FROM skein_members",
		"node1|a|leader|leading|3|0/28|0/28|0/28|NULL|20|0|1|NULL|0|NULL|127.0.0.1:5432|127.0.0.1:7432",
		"node2|b|follower|streaming|3|0/28|0/28|0/28|0|20|1|1|NULL|0|NULL|127.0.0.1:5433|127.0.0.1:7433",
		"node3|c|follower|streaming|3|0/26|0/25|0/24|2|20|1|0|it is never to lead|-1|priority -1, never leader|127.0.0.1:5434|127.0.0.1:7434")
	query("SELECT at, kind, epoch, node, lsn, took_ms, event FROM skein_history",
		"2024-02-29 12:00:00.25|join|1|node2|NULL|NULL|node2 joined",
		"2024-02-29 12:00:01.25|promotion|3|node1|0/28|431|node1 leads")
	query("SELECT node, winner, eligible, reason, epoch, lsn, behind FROM skein_failover_check()",
		"node2|1|1|NULL|3|0/28|0", "node3|0|0|it is never to lead|3|0/26|2")
}

// A node that has lost the coordinator knows itself and no more.
func TestWhatANodeCannotKnowIsNull(t *testing.T) {
	f := newFakeFailover()
	f.blind = errors.New("nobody coordinates")
	query, _, _ := appointed(t, f)
	query("SELECT name, role, state, flushed_lsn, behind, silence_ms, eligible, reason FROM skein_members",
		"node1|unknown|unknown|NULL|NULL|NULL|0|unknown",
		"node2|follower|streaming|0/28|NULL|0|0|unknown",
		"node3|unknown|unknown|NULL|NULL|NULL|0|unknown")
	query("SELECT json_extract(skein_overview(), '$.health'), json_extract(skein_overview(), '$.blind')", "unknown|nobody coordinates")
}

func TestDatabasesHaveNumbers(t *testing.T) {
	query, _, _ := replicated(t, nil, false)
	query("SELECT * FROM skein_databases", "2|postgres|postgres|0", "3|other|app|0")
}

func TestOverviewIsJSON(t *testing.T) {
	query, _, s := appointed(t, newFakeFailover())
	_ = query
	b, err := json.Marshal(overview.Of(observe(t.Context(), s.cluster.failover)))
	if err != nil {
		t.Fatal(err)
	}
	query("SELECT skein_overview()", string(b))
	query("SELECT json_extract(skein_overview(), '$.health'), json_extract(skein_overview(), '$.leader'), json_extract(skein_overview(), '$.asked'), json_extract(skein_overview(), '$.coordinator')",
		"healthy|node1|node2|node3")
}

// Where the leader is set by configuration views are empty, for tools that list them, and functions say why.
func TestNobodyIsAppointedByHand(t *testing.T) {
	query, refused, _ := replicated(t, nil, true)
	query("SELECT count(*) FROM skein_members", "0")
	query("SELECT count(*) FROM skein_history", "0")
	for _, call := range []string{
		"skein_overview()", "skein_switchover()", "skein_cancel_switchover()", "skein_failover('node2')", "skein_remove_member('node2')",
		"skein_set_member('node2', 'priority', '1')", "pg_promote()",
	} {
		refused("SELECT "+call, sqlstate.NotInRequiredState, "set by configuration (--follow)")
	}
	refused("SELECT * FROM skein_failover_check()", sqlstate.NotInRequiredState, "set by configuration")
}

func TestOnlySuperusersGiveOrders(t *testing.T) {
	f := newFakeFailover()
	query, refused, s := appointed(t, f)
	s.user = "app"
	for _, call := range []string{
		"skein_switchover()", "skein_cancel_switchover()", "skein_failover('node2')", "skein_remove_member('node2')",
		"skein_set_member('node2', 'priority', '1')", "pg_promote()",
	} {
		refused("SELECT "+call, sqlstate.InsufficientPrivilege, "permission denied")
	}
	if len(f.asked) > 0 {
		t.Error("refused and done:", f.asked)
	}
	query("SELECT count(*) FROM skein_members", "3") // looking is free
}

func TestSwitchoverIsWaitedFor(t *testing.T) {
	f := newFakeFailover()
	query, refused, s := appointed(t, f)
	s.user = "postgres"

	f.then = leads("c")
	query("SELECT skein_switchover('node3')", "node3 leads epoch 4")
	if got := f.asked[0]; got.Kind != failover.SwitchoverCommand || got.Node != "c" || got.By != "postgres" || !got.At.IsZero() {
		t.Errorf("asked for %+v", got)
	}
	f.state.Leader, f.then = "a", func(s *failover.State) { s.Switchover = nil }
	refused("SELECT skein_switchover('node3')", sqlstate.NotInRequiredState, "node1 leads on")
	if !strings.Contains(s.fakeSession.err.Detail, "a switchover to node3 is asked for") {
		t.Errorf("detail %q is not the last event", s.fakeSession.err.Detail)
	}
	f.then = leads("b")
	query("SELECT skein_switchover()", "node2 leads epoch 5")
	f.state.Leader, f.then = "a", nil
	query("SELECT skein_switchover('node2', NULL, 0)", "a switchover has begun")
	query("SELECT skein_cancel_switchover()", "no switchover is under way")
	refused("SELECT skein_cancel_switchover()", sqlstate.NotInRequiredState, "no switchover is asked for")
	refused("SELECT skein_switchover('node9')", sqlstate.UndefinedObject, `no member "node9"`)
	refused("SELECT skein_switchover('node1')", sqlstate.NotInRequiredState, "leads already")
	refused("SELECT skein_switchover('node2', 'soon')", sqlstate.InvalidDatetimeFormat, "soon")

	s.cluster.follower = false // the session would not live to hear the end
	query("SELECT skein_switchover('node2')", "a switchover has begun; this session ends when another node leads")
	query("SELECT skein_cancel_switchover()", "no switchover is under way")
	query("SELECT substr(skein_switchover('node2', strftime('%Y-%m-%d %H:%M:%S', 'now', '+1 hour')), 1, 26)", "a switchover is to begin i")
	if at := f.state.Switchover.At; time.Until(at) < 59*time.Minute || time.Until(at) > 61*time.Minute {
		t.Errorf("asked for at %s", at)
	}
}

// A session that has written would wait for itself: the leader stops writers first.
func TestOrdersAreNotGivenByWriters(t *testing.T) {
	f := newFakeFailover()
	db, fake := testDB(t)
	s := &replicatedSession{fake, replicatedCluster{failover: f}, "postgres"}
	if err := Register(db, func() Session { return s }); err != nil {
		t.Fatal(err)
	}
	if err := db.Exec("CREATE TABLE t (a); BEGIN; INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	if _, err := tryRows(db, "SELECT skein_switchover('node2')"); err == nil || fake.err.Code != sqlstate.ActiveTransaction || len(f.asked) > 0 {
		t.Errorf("error %v, asked for %v", err, f.asked)
	}
}

func TestFailoverByHand(t *testing.T) {
	f := newFakeFailover()
	query, _, _ := appointed(t, f)
	f.then = leads("b")
	query("SELECT skein_failover('node2')", "node2 leads epoch 5")
	query("SELECT skein_failover(NULL)", "NULL")

	f = newFakeFailover()
	query, refused, _ := appointed(t, f)
	f.facts.Nodes[0].Silence, f.facts.Nodes[2].Silence = time.Hour, time.Hour
	refused("SELECT skein_failover('node2')", sqlstate.NotInRequiredState, "any of node1, node3 may hold the last acknowledged commits")
	f.then = leads("b")
	query("SELECT skein_failover('node2', 1)", "node2 leads epoch 5")
	if got := f.asked[1]; !got.DataLoss || got.Node != "b" {
		t.Errorf("asked for %+v", got)
	}
	f.lost = errors.New("broken pipe")
	refused("SELECT skein_failover('node2', 1)", sqlstate.TransactionUnknown, "unknown")
}

func TestMembersAreChangedAndRemoved(t *testing.T) {
	f := newFakeFailover()
	query, refused, _ := appointed(t, f)
	query("SELECT skein_set_member('node2', 'priority', '7')", "node2: priority 7")
	query("SELECT skein_set_member('node2', 'Hidden', 'ON')", "node2: priority 7, hidden")
	query("SELECT skein_set_member('node3', 'hidden', 'off')", "node3: nothing special")
	refused("SELECT skein_set_member('node2', 'colour', 'grey')", sqlstate.NotInRequiredState, `no "colour"`)
	refused("SELECT skein_set_member('node2', 'delay', '1h')", sqlstate.InvalidParameterValue, "its own affair")
	refused("SELECT skein_remove_member('node1')", sqlstate.NotInRequiredState, "node1 leads")
	query("SELECT skein_remove_member('node3')", "node3 is leaving: it goes as soon as nothing depends on it")
	f.state.Rules[0].Members, f.state.Rules[0].K = []failover.NodeID{"b"}, 1
	f.state.Members[2].Leaving = false
	query("SELECT skein_remove_member('node3')", "node3 is no member any more")
}

func TestPromote(t *testing.T) {
	f := newFakeFailover()
	query, refused, s := appointed(t, f)
	f.then = leads("b")
	query("SELECT pg_promote()", "1")
	if got := f.asked[0]; got.Kind != failover.SwitchoverCommand || got.Node != "b" {
		t.Errorf("of a leader that is there, asked for %+v", got)
	}

	f = newFakeFailover()
	s.cluster.failover = f
	f.state.Phase, f.then = failover.Electing, leads("b")
	query("SELECT pg_promote(1, 5)", "1")
	if got := f.asked[0]; got.Kind != failover.ForceCommand || got.Node != "b" || got.DataLoss {
		t.Errorf("without a leader, asked for %+v", got)
	}

	f = newFakeFailover()
	s.cluster.failover = f
	query("SELECT pg_promote(0)", "1")
	f.state.Switchover, f.then = nil, func(s *failover.State) { s.Switchover = nil }
	query("SELECT pg_promote()", "0") // given up
	refused("SELECT pg_promote(1, 0)", sqlstate.InvalidParameterValue, "wait_seconds")
	s.cluster.follower = false
	refused("SELECT pg_promote()", sqlstate.NotInRequiredState, "recovery is not in progress")
}
