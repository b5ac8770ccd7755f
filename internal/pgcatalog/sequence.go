package pgcatalog

import (
	"strings"

	"skein/internal/sqlstate"
)

// Sequences exist behind serial columns only: SQLite counts in sqlite_sequence, one row per table.
func sequenceFunctions() []function {
	return []function{
		{"nextval", 1, 1, direct, nextval},
		{"setval", 2, 3, direct, setval},
		{"currval", 1, 1, direct, currval},
		{"lastval", 0, 0, direct, lastval},
		{"restart_identity", 1, 1, direct, restartIdentity},
		{"pg_sequence_last_value", 1, 1, direct, lastValue},
	}
}

// sequenceTable gives the table behind a sequence named by text or by OID.
func (c *call) sequenceTable() (*table, error) {
	s, err := c.loadSchema()
	if err != nil {
		return nil, err
	}
	if n, ok := c.number(); ok {
		for o, r := range s.relations {
			if int64(o) == n && r.kind == 'S' {
				return r.table, nil
			}
		}
	} else {
		_, name := objectName(c.text(0))
		for _, t := range s.tables {
			if t.sequence != "" && strings.EqualFold(t.sequence, name) {
				return t, nil
			}
		}
	}
	return nil, sqlstate.New(sqlstate.UndefinedTable, "relation \"%s\" does not exist", c.text(0))
}

// sequenceValue is the last number given out for a table.
func (cat *catalog) sequenceValue(table string) (n int64, ok bool) {
	stmt, _, err := cat.conn.Prepare("SELECT seq FROM sqlite_sequence WHERE name = ?")
	if err != nil {
		return 0, false
	}
	defer stmt.Close()
	if stmt.BindText(1, table) == nil && stmt.Step() {
		return stmt.ColumnInt64(0), true
	}
	return 0, false
}

// setSequence writes the last number given out; sqlite_sequence has no key to upsert by.
func (cat *catalog) setSequence(table string, value int64) error {
	if err := cat.runSequence("UPDATE sqlite_sequence SET seq = ?2 WHERE name = ?1", table, value); err != nil {
		return err
	}
	if cat.conn.Changes() > 0 {
		return nil
	}
	return cat.runSequence("INSERT INTO sqlite_sequence(name, seq) VALUES (?1, ?2)", table, value)
}

func (cat *catalog) runSequence(sql, table string, value int64) error {
	stmt, _, err := cat.conn.Prepare(sql)
	if err != nil {
		return err
	}
	defer stmt.Close()
	if err := stmt.BindText(1, table); err != nil {
		return err
	}
	if err := stmt.BindInt64(2, value); err != nil {
		return err
	}
	return stmt.Exec()
}

// restartIdentity has a table number its rows from 1 again; most tables number nothing.
func restartIdentity(c *call) error {
	if _, ok := c.sequenceValue(c.text(0)); !ok {
		return nil
	}
	if err := c.setSequence(c.text(0), 0); err != nil {
		return c.storeError(err)
	}
	return nil
}

func nextval(c *call) error {
	t, err := c.sequenceTable()
	if err != nil {
		return err
	}
	n, _ := c.sequenceValue(t.name)
	if err := c.setSequence(t.name, n+1); err != nil {
		return c.storeError(err)
	}
	c.sess().Numbered(t.name, n+1, true)
	return c.returnInt(n + 1)
}

func setval(c *call) error {
	t, err := c.sequenceTable()
	if err != nil {
		return err
	}
	n, err := c.int(1)
	if err != nil {
		return err
	}
	if n < 1 {
		return sqlstate.New(sqlstate.NumericOutOfRange, "setval: value %d is out of bounds for sequence \"%s\" (1..9223372036854775807)", n, t.sequence)
	}
	called := len(c.arg) < 3 || c.arg[2].Bool()
	last := n
	if !called {
		last--
	}
	if err := c.setSequence(t.name, last); err != nil {
		return c.storeError(err)
	}
	if called {
		c.sess().Numbered(t.name, n, false)
	}
	return c.returnInt(n)
}

// storeError passes SQLite's error on by its code, so that the engine can tell a read-only follower
// from a full disk.
func (c *call) storeError(err error) error {
	c.ctx.ResultError(err)
	return nil
}

func currval(c *call) error {
	t, err := c.sequenceTable()
	if err != nil {
		return err
	}
	n, ok := c.sess().SequenceValue(t.name)
	if !ok {
		return sqlstate.New(sqlstate.NotInRequiredState, "currval of sequence \"%s\" is not yet defined in this session", t.sequence)
	}
	return c.returnInt(n)
}

func lastval(c *call) error {
	n, ok := c.sess().LastSequenceValue()
	if !ok {
		return sqlstate.New(sqlstate.NotInRequiredState, "lastval is not yet defined in this session")
	}
	return c.returnInt(n)
}

func lastValue(c *call) error {
	t, err := c.sequenceTable()
	if err != nil {
		return err
	}
	if n, ok := c.sequenceValue(t.name); ok {
		return c.returnInt(n)
	}
	return nil
}
