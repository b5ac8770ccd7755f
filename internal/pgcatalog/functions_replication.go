package pgcatalog

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/history"
	"skein/internal/sqlstate"
)

// replicationFunctions tell positions in the log and act on the streaming between nodes.
//
// An LSN counts entries of the log, one for each transaction, not bytes: so does every difference
// of two. skein_replication has the lag in bytes.
func replicationFunctions() []function {
	return []function{
		{"pg_is_in_recovery", 0, 0, 0, func(c *call) error { return c.returnBool(c.sess().Cluster().InRecovery()) }},
		// What is appended is on its way to the disk and to the followers: there is no position between.
		{"pg_current_wal_insert_lsn", 0, 0, 0, leaderLSN(func(n *Node) history.LSN { return n.Head })},
		{"pg_current_wal_lsn", 0, 0, 0, leaderLSN(func(n *Node) history.LSN { return n.Head })},
		{"pg_current_wal_flush_lsn", 0, 0, 0, leaderLSN(func(n *Node) history.LSN { return n.Flushed })},
		{"pg_last_wal_receive_lsn", 0, 0, 0, followerLSN(func(n *Node) history.LSN { return n.Flushed })},
		// Replayed is what a query sees: that is what those who ask want to know.
		{"pg_last_wal_replay_lsn", 0, 0, 0, followerLSN(func(n *Node) history.LSN { return n.Visible })},
		{"pg_last_xact_replay_timestamp", 0, 0, 0, lastReplayed},
		{"skein_staleness", 0, 0, 0, staleness},
		{"pg_wal_lsn_diff", 2, 2, pure, lsnDiff},
		{"pg_lsn_add", 2, 2, pure, addLSN},
		{"pg_lsn_sub", 2, 2, pure, subtractLSN},
		{"pg_lsn_greatest", 1, -1, pure | nullable, extremeText(compareLSNs, 1)},
		{"pg_lsn_least", 1, -1, pure | nullable, extremeText(compareLSNs, -1)},
		{"pg_wal_replay_pause", 0, 0, direct, pauseReplay(true)},
		{"pg_wal_replay_resume", 0, 0, direct, pauseReplay(false)},
		{"pg_is_wal_replay_paused", 0, 0, 0, replayPaused},
		{"pg_get_wal_replay_pause_state", 0, 0, 0, replayPauseState},
		{"pg_create_physical_replication_slot", 1, 3, direct, createdSlot},
		{"pg_drop_replication_slot", 1, 1, direct, dropSlot},
		{"pg_reload_conf", 0, 0, direct, reloadConf},
	}
}

// errInRecovery refuses what only a leader can tell.
func errInRecovery() error {
	return sqlstate.New(sqlstate.NotInRequiredState, "recovery is in progress").
		WithHint("WAL control functions cannot be executed during recovery.")
}

// errNotInRecovery refuses what only a follower can do.
func errNotInRecovery() error {
	return sqlstate.New(sqlstate.NotInRequiredState, "recovery is not in progress").
		WithHint("Recovery control functions can only be executed during recovery.")
}

func leaderLSN(of func(*Node) history.LSN) func(*call) error {
	return func(c *call) error {
		if c.sess().Cluster().InRecovery() {
			return errInRecovery()
		}
		n := c.replication().Node()
		return c.returnText(of(&n).PgLSN())
	}
}

// followerLSN is NULL on a leader, which has never been told anything.
func followerLSN(of func(*Node) history.LSN) func(*call) error {
	return func(c *call) error {
		if !c.sess().Cluster().InRecovery() {
			return nil
		}
		n := c.replication().Node()
		return c.returnText(of(&n).PgLSN())
	}
}

func lastReplayed(c *call) error {
	if t := c.replication().Node().LastReplayed; c.sess().Cluster().InRecovery() && !t.IsZero() {
		return c.returnText(formatTimestamp(micros(t)))
	}
	return nil
}

// staleness is in milliseconds, and NULL while it is not known.
func staleness(c *call) error {
	if d, ok := c.replication().Staleness(); ok {
		return c.returnFloat(float64(d.Microseconds()) / 1000)
	}
	return nil
}

func pauseReplay(pause bool) func(*call) error {
	name := map[bool]string{true: "pg_wal_replay_pause", false: "pg_wal_replay_resume"}[pause]
	return func(c *call) error {
		if err := c.superuserFor(name); err != nil {
			return err
		}
		if !c.sess().Cluster().InRecovery() {
			return errNotInRecovery()
		}
		c.replication().PauseApply(pause)
		return c.returnText("")
	}
}

func replayPaused(c *call) error {
	if !c.sess().Cluster().InRecovery() {
		return errNotInRecovery()
	}
	return c.returnBool(c.replication().Node().Pause != NotPaused)
}

func replayPauseState(c *call) error {
	if !c.sess().Cluster().InRecovery() {
		return errNotInRecovery()
	}
	return c.returnText(string(c.replication().Node().Pause))
}

// slotName is what PostgreSQL takes, for slots are named after nodes and their names become files.
var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// createSlot gives the position that the slot keeps, 0 when it does not reserve any yet.
func (cat *catalog) createSlot(arg []sqlite3.Value) (string, history.LSN, error) {
	if !cat.superuserNow() {
		return "", 0, errSlotPrivilege()
	}
	name := arg[0].Text()
	if !slotName.MatchString(name) {
		return "", 0, sqlstate.New(sqlstate.InvalidName, "replication slot name \"%s\" contains invalid character", name).
			WithHint("Replication slot names may only contain lower case letters, numbers, and the underscore character.")
	}
	if len(arg) > 2 && arg[2].Bool() {
		return "", 0, sqlstate.New(sqlstate.FeatureNotSupported, "temporary replication slots are not supported")
	}
	at, err := cat.replication().CreateSlot(name, len(arg) > 1 && arg[1].Bool())
	return name, at, slotError(name, err)
}

// createdSlot gives the record as text; in FROM it is the row function of the same name.
func createdSlot(c *call) error {
	name, at, err := c.createSlot(c.arg)
	if err != nil {
		return err
	}
	return c.returnText("(" + name + "," + shownLSN(at) + ")")
}

// shownLSN is empty for a position that there is not.
func shownLSN(l history.LSN) string {
	if l == 0 {
		return ""
	}
	return l.PgLSN()
}

func dropSlot(c *call) error {
	if !c.superuserNow() {
		return errSlotPrivilege()
	}
	if err := slotError(c.text(0), c.replication().DropSlot(c.text(0))); err != nil {
		return err
	}
	return c.returnText("")
}

func slotError(name string, err error) error {
	switch {
	case errors.Is(err, ErrSlotExists):
		return sqlstate.New(sqlstate.DuplicateObject, "replication slot \"%s\" already exists", name)
	case errors.Is(err, ErrNoSlot):
		return sqlstate.New(sqlstate.UndefinedObject, "replication slot \"%s\" does not exist", name)
	case errors.Is(err, ErrSlotActive):
		return sqlstate.New(sqlstate.ObjectInUse, "replication slot \"%s\" is active", name)
	}
	return replicationError(err)
}

func replicationError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNoReplication):
		return sqlstate.New(sqlstate.NotInRequiredState, "%v", err).WithHint("Start it with --peer-addr.")
	}
	return sqlstate.New(sqlstate.InternalError, "%v", err)
}

func errSlotPrivilege() error {
	return sqlstate.New(sqlstate.InsufficientPrivilege, "must be superuser or replication role to use replication slots")
}

// superuserNow says whether the session's role is a superuser; the engine's own statements are.
func (cat *catalog) superuserNow() bool {
	s := cat.sess()
	if _, own := s.(nobody); own {
		return true
	}
	roles := s.Cluster().Roles()
	return slices.ContainsFunc(roles, func(r Role) bool { return r.Name == s.User() && r.Superuser })
}

func (c *call) superuserFor(function string) error {
	if c.superuserNow() {
		return nil
	}
	return sqlstate.New(sqlstate.InsufficientPrivilege, "permission denied for function %s", function)
}

// reloadConf has nothing to do: a changed setting is in effect when ALTER SYSTEM returns.
func reloadConf(c *call) error {
	if err := c.superuserFor("pg_reload_conf"); err != nil {
		return err
	}
	return c.returnBool(true)
}

// valueRows gives a list of rows.
type valueRows struct {
	rows [][]any
	at   int
}

func (r *valueRows) next() bool {
	r.at++
	return r.at < len(r.rows)
}

func (r *valueRows) column(ctx sqlite3.Context, n int) { setResult(ctx, r.rows[r.at][n]) }

// openCreatedSlot is pg_create_physical_replication_slot in FROM.
func openCreatedSlot(cat *catalog, arg []sqlite3.Value) (rowSource, error) {
	rows := &valueRows{at: -1}
	if anyNull(arg) {
		return rows, nil
	}
	name, at, err := cat.createSlot(arg)
	if err != nil {
		return nil, err
	}
	rows.rows = [][]any{{name, optional(shownLSN(at))}}
	return rows, nil
}

const verifyColumns = "node text, node_id text, database text, lsn pg_lsn_text, pages int8, checksum text, damaged int8, repaired int8, result text, detail text"

// openVerify is skein_verify: it reads every page of every database once, until it is cancelled.
func openVerify(cat *catalog, _ []sqlite3.Value) (rowSource, error) {
	if !cat.superuserNow() {
		return nil, sqlstate.New(sqlstate.InsufficientPrivilege, "permission denied for function skein_verify")
	}
	ctx := cat.conn.GetInterrupt()
	list, err := cat.replication().Verify(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, sqlite3.INTERRUPT
	case err != nil:
		return nil, replicationError(err)
	}
	names := map[history.DatabaseID]string{history.SystemDatabase: "(system)"}
	for _, d := range cat.databases() {
		names[d.ID] = d.Name
	}
	rows := &valueRows{at: -1}
	for _, v := range list {
		name, known := names[v.Database]
		if !known && v.Database != 0 {
			name = fmt.Sprintf("(number %d)", v.Database) // dropped since
		}
		rows.rows = append(rows.rows, []any{
			v.Node, v.NodeID, optional(name), optional(shownLSN(v.LSN)), v.Pages, fmt.Sprintf("%016x", v.Checksum),
			v.Damaged, v.Repaired, v.Result, optional(v.Detail),
		})
	}
	return rows, nil
}
