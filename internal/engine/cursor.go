package engine

import (
	"context"
	"strconv"

	"skein/internal/dialect"
	"skein/internal/sqlstate"
)

// runCursor runs DECLARE, FETCH, MOVE and CLOSE. A cursor reads forward, one snapshot, until its
// transaction ends.
func (p *portal) runCursor(ctx context.Context) (string, error) {
	s, st := p.session, p.statement
	switch st.Kind {
	case dialect.DeclareCursor:
		return st.Tag, s.declare(ctx, st.Cursor)
	case dialect.CloseCursor:
		return st.Tag, s.closeCursor(st.Name)
	}
	c := s.cursors[st.Cursor.Name]
	if c == nil {
		return "", sqlstate.New(sqlstate.InvalidCursorName, "cursor %q does not exist", st.Cursor.Name)
	}
	return p.fetch(ctx, c, st)
}

func (s *Session) declare(ctx context.Context, d *dialect.CursorStmt) error {
	switch {
	case !s.tx.block:
		return sqlstate.New(sqlstate.NoActiveTransaction, "DECLARE CURSOR can only be used in transaction blocks")
	case d.Hold:
		return sqlstate.New(sqlstate.FeatureNotSupported, "DECLARE CURSOR WITH HOLD is not supported: cursors end with their transaction")
	case d.Scroll == dialect.On:
		return sqlstate.New(sqlstate.FeatureNotSupported, "DECLARE SCROLL CURSOR is not supported: cursors read forward only")
	case s.cursors[d.Name] != nil:
		return sqlstate.New(sqlstate.DuplicateCursor, "cursor %q already exists", d.Name)
	}
	c := &portal{session: s, statement: d.Query}
	if d.Binary {
		c.formats = []int16{1}
	}
	if err := c.start(ctx); err != nil {
		return err
	}
	s.cursors[d.Name] = c
	return nil
}

func (s *Session) closeCursor(name string) error {
	if name == "" {
		for name := range s.cursors {
			_ = s.closeCursor(name)
		}
		return nil
	}
	c := s.cursors[name]
	if c == nil {
		return sqlstate.New(sqlstate.InvalidCursorName, "cursor %q does not exist", name)
	}
	c.close()
	delete(s.cursors, name)
	return nil
}

// fetch reads rows of cursor c for a FETCH or MOVE.
func (p *portal) fetch(ctx context.Context, c *portal, st *dialect.Statement) (string, error) {
	f := st.Cursor
	skip, count := int64(0), f.Count
	switch {
	case f.Direction == dialect.Forward && count >= 0:
	case f.Direction == dialect.Relative && count > 0:
		skip, count = count-1, 1
	case f.Direction == dialect.Absolute && count > c.rows:
		skip, count = count-c.rows-1, 1
	default:
		return "", sqlstate.New(sqlstate.FeatureNotSupported, "cursor can only scan forward").WithHint("Declare the cursor anew to read it again.")
	}
	if p.simple && st.Kind == dialect.Fetch && c.plan.fields != nil {
		p.session.out.RowDescription(c.fields())
	}
	before := c.rows
	if !c.ended && (f.All || skip+count > 0) {
		c.lease.conn.begin(ctx, p.session)
		c.simple = false
		if err := c.advance(skip, count, f.All, st.Kind == dialect.Fetch); err != nil {
			return "", err
		}
	}
	n := max(c.rows-before-skip, 0)
	return st.Tag + " " + strconv.FormatInt(n, 10), nil
}

func (p *portal) advance(skip, count int64, all, send bool) error {
	nothing := func() error { return nil }
	if skip > 0 {
		if more, err := p.step(int(skip), nothing); err != nil || !more {
			p.finish()
			return err
		}
	}
	row := nothing
	if send {
		row = p.sendRow
	}
	limit := int(count)
	if all {
		limit = 0
	} else if limit == 0 {
		return nil
	}
	more, err := p.step(limit, row)
	if err != nil || !more {
		p.finish()
	}
	return err
}
