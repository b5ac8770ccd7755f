package engine

import (
	"context"
	"slices"
	"strconv"

	"skein/internal/dialect"
	"skein/internal/sqlstate"
)

// savepoint is what a transaction goes back to. SQLite knows it by its depth, because SQLite's names
// ignore case and SQL's do not.
type savepoint struct {
	name     string
	changes  int  // of settings before it
	started  int  // portals before it
	deferred bool // as the transaction's at its time
}

func (t *transaction) savepointSQL(verb string, depth int) string {
	return verb + " s" + strconv.Itoa(depth)
}

// findSavepoint gives the depth of the innermost savepoint of this name.
func (t *transaction) findSavepoint(name string) (int, error) {
	for depth, p := range slices.Backward(t.savepoints) {
		if p.name == name && !t.lost {
			return depth, nil
		}
	}
	return 0, sqlstate.New(sqlstate.InvalidSavepoint, "savepoint %q does not exist", name)
}

// runSavepoint runs SAVEPOINT, RELEASE and ROLLBACK TO.
func (s *Session) runSavepoint(ctx context.Context, k dialect.Kind, name string) error {
	if !s.tx.block {
		what := map[dialect.Kind]string{dialect.Savepoint: "SAVEPOINT", dialect.Release: "RELEASE SAVEPOINT", dialect.RollbackTo: "ROLLBACK TO SAVEPOINT"}[k]
		return sqlstate.New(sqlstate.NoActiveTransaction, "%s can only be used in transaction blocks", what)
	}
	switch k {
	case dialect.Release:
		return s.releaseSavepoint(ctx, name)
	case dialect.RollbackTo:
		return s.rollbackTo(ctx, name)
	}
	return s.setSavepoint(ctx, name)
}

func (s *Session) setSavepoint(ctx context.Context, name string) error {
	t := &s.tx
	if err := s.execInTransaction(ctx, t.savepointSQL("SAVEPOINT", len(t.savepoints))); err != nil {
		return err
	}
	t.savepoints = append(t.savepoints, savepoint{name, len(t.changes), s.started, t.deferred})
	return nil
}

func (s *Session) releaseSavepoint(ctx context.Context, name string) error {
	t := &s.tx
	depth, err := t.findSavepoint(name)
	if err != nil {
		return err
	}
	if err := s.execInTransaction(ctx, t.savepointSQL("RELEASE", depth)); err != nil {
		return err
	}
	t.savepoints = t.savepoints[:depth]
	return nil
}

func (s *Session) rollbackTo(ctx context.Context, name string) error {
	t := &s.tx
	depth, err := t.findSavepoint(name)
	if err != nil {
		return err
	}
	to := t.savepoints[depth]
	s.closePortals(to.started)
	if t.ddl {
		s.closeReading() // SQLite ends every reading when the schema goes back
	}
	if err := s.execInTransaction(ctx, t.savepointSQL("ROLLBACK TO", depth)); err != nil {
		return err
	}
	if t.deferred != to.deferred { // SQLite takes back what was put off, and not that it was
		if err := s.execInTransaction(ctx, deferForeignKeys(to.deferred)); err != nil {
			return err
		}
		t.deferred = to.deferred
	}
	s.undoSettings(to.changes)
	t.unnamed = true
	t.savepoints, t.failed = t.savepoints[:depth+1], false
	s.edits++
	return nil
}

// execInTransaction runs sql on the transaction's connection, if it has one by now.
func (s *Session) execInTransaction(ctx context.Context, sql string) error {
	c := s.tx.conn
	if c == nil {
		return nil
	}
	c.begin(ctx, s)
	return s.guard(c, func() error { return c.exec(sql) })
}
