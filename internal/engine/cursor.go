package engine

import (
	"context"
	"strconv"

	"skein/internal/dialect"
	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

// runCursor runs DECLARE, FETCH, MOVE and CLOSE. A cursor reads one snapshot, forward, until its transaction ends: SQLite steps through
// the query as rows are fetched. One WITH HOLD, or with SCROLL, reads all of it at once.
func (p *portal) runCursor(ctx context.Context) (string, error) {
	s, st := p.session, p.statement
	switch st.Kind {
	case dialect.DeclareCursor:
		return st.Tag, p.declare(ctx, st.Cursor)
	case dialect.CloseCursor:
		return st.Tag, s.closeCursor(st.Name)
	}
	c := s.cursors[st.Cursor.Name]
	if c == nil {
		return "", sqlstate.New(sqlstate.InvalidCursorName, "cursor %q does not exist", st.Cursor.Name)
	}
	if c.held != nil {
		return p.fetchHeld(ctx, c, st)
	}
	return p.fetch(ctx, c, st)
}

// declare opens a cursor. Its query has the parameters of the DECLARE.
func (p *portal) declare(ctx context.Context, d *dialect.CursorStmt) error {
	s := p.session
	switch {
	case !s.tx.block && !d.Hold:
		return sqlstate.New(sqlstate.NoActiveTransaction, "DECLARE CURSOR can only be used in transaction blocks")
	case d.Hold && d.Query.ForUpdate:
		return sqlstate.New(sqlstate.FeatureNotSupported, "DECLARE CURSOR WITH HOLD ... FOR UPDATE is not supported").
			WithDetail("Holdable cursors must be READ ONLY.")
	case s.cursors[d.Name] != nil:
		return sqlstate.New(sqlstate.DuplicateCursor, "cursor %q already exists", d.Name)
	}
	c := &portal{session: s, prepared: p.prepared, statement: d.Query, params: p.params}
	if d.Binary {
		c.formats = []int16{1}
	}
	if err := c.start(ctx); err != nil {
		return err
	}
	if d.Hold || d.Scroll == dialect.On {
		if err := c.hold(); err != nil {
			return err
		}
		c.scrolls, c.holds, c.kept = d.Scroll != dialect.Off, d.Hold, !s.tx.open()
	}
	s.cursors[d.Name] = c
	return nil
}

// hold reads the whole result.
func (p *portal) hold() error {
	h := &held{file: p.lease.conn.file.NewTemp()}
	row := make([]pgwire.Value, len(p.plan.fields))
	_, err := p.step(0, func() error {
		for i := range row {
			row[i] = columnValue(p.stmt, i)
		}
		return h.add(row)
	})
	if err == nil {
		err = h.flush()
	}
	p.close()
	if err != nil {
		h.close()
		return err
	}
	p.held = h
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
	c.drop()
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
		return "", errForwardOnly
	}
	p.announce(c)
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

var errForwardOnly = sqlstate.New(sqlstate.NotInRequiredState, "cursor can only scan forward").
	WithHint("Declare it with SCROLL option to enable backward scan.")

// announce describes the rows that a FETCH is about to send.
func (p *portal) announce(c *portal) {
	if p.simple && p.statement.Kind == dialect.Fetch && c.plan.fields != nil {
		p.session.out.RowDescription(c.fields())
	}
}

// fetchHeld is fetch of a cursor whose result is there.
func (p *portal) fetchHeld(ctx context.Context, c *portal, st *dialect.Statement) (string, error) {
	w := c.held.walk(st.Cursor)
	if !c.scrolls && w.backwards(c.held.at) {
		return "", errForwardOnly
	}
	p.announce(c)
	n, err := c.through(ctx, w, st.Kind == dialect.Fetch)
	return st.Tag + " " + strconv.FormatInt(n, 10), err
}

// through goes through rows of the result, and sends them or not.
func (p *portal) through(ctx context.Context, w walk, send bool) (n int64, err error) {
	err = p.held.run(w, func() error {
		n++
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case send:
			return p.sendRow()
		}
		return nil
	})
	return n, err
}

// executeHeld is execute of a cursor whose result is there.
func (p *portal) executeHeld(ctx context.Context, maxRows int) (err error) {
	n := int64(maxRows)
	if n == 0 {
		n = p.held.count + 1
	}
	if p.rows, err = p.through(ctx, p.held.walk(&dialect.CursorStmt{Count: n}), true); err != nil {
		return err
	}
	if p.held.at < p.held.count {
		p.session.out.PortalSuspended()
		return nil
	}
	p.session.complete(p.tag())
	return nil
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
