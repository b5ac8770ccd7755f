package engine

import (
	"context"
	"hash/maphash"
	"slices"
	"strconv"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/dialect"
	"skein/internal/oid"
	"skein/internal/pgcatalog"
	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

// portal is a statement with its parameters, ready to run or running. While it is suspended it keeps
// its SQLite statement, and with that its snapshot.
type portal struct {
	session   *Session
	name      string
	prepared  *prepared // nil for a simple query
	statement *dialect.Statement
	plan      *plan
	params    []pgwire.Value
	formats   []int16 // of the result: none, one for all, or one each
	simple    bool    // the result is announced with a RowDescription

	order int // among the session's portals, from its start on
	lease lease
	stmt  *sqlite3.Stmt // while rows are being read
	whole bool          // its result is read in one go
	sum   *maphash.Hash // of what the client is told, if the statement may be run again
	ended bool
	rows  int64 // sent by this Execute, or by all FETCHes so far

	// Of a cursor whose result was read when it was declared.
	held    *held
	scrolls bool // backwards, too
	holds   bool // outlives its transaction
	kept    bool // has done so
}

// bind decodes the parameters. They are copied: the message is gone when the portal runs.
func (p *portal) bind(b *pgwire.Bind) error {
	if n := len(p.plan.params); len(b.Params) != n {
		return sqlstate.New(sqlstate.ProtocolViolation, "bind message supplies %d parameters, but prepared statement %q requires %d", len(b.Params), b.Statement, n)
	}
	if n := len(p.plan.fields); len(b.ResultFormats) > 1 && len(b.ResultFormats) != n {
		return sqlstate.New(sqlstate.ProtocolViolation, "bind message has %d result formats but query has %d columns", len(b.ResultFormats), n)
	}
	p.formats = append([]int16(nil), b.ResultFormats...)
	if len(b.Params) == 0 {
		return nil
	}
	p.params = make([]pgwire.Value, len(b.Params))
	env := p.session.out.Env()
	for i, data := range b.Params {
		t := p.plan.params[i]
		kind := t.OID
		if kind == oid.Unspecified {
			kind = oid.Text
		}
		v, err := pgwire.Decode(kind, t.Mod, b.ParamFormat(i), data, env)
		if err != nil {
			return err
		}
		if v.Bytes != nil {
			v.Bytes = append([]byte{}, v.Bytes...)
		}
		p.params[i] = v
	}
	return nil
}

func (p *portal) format(i int) int16 {
	switch len(p.formats) {
	case 0:
		return pgwire.TextFormat
	case 1:
		return p.formats[0]
	}
	return p.formats[i]
}

// fields gives the result's columns with the formats that the client chose.
func (p *portal) fields() []pgwire.Field {
	if p.plan.fields == nil || len(p.formats) == 0 {
		return p.plan.fields
	}
	fields := append([]pgwire.Field{}, p.plan.fields...)
	for i := range fields {
		fields[i].Format = p.format(i)
	}
	return fields
}

// execute runs the portal, or goes on with it, for up to maxRows rows; 0 is all.
func (p *portal) execute(ctx context.Context, maxRows int) error {
	s, st := p.session, p.statement
	if s.tx.failed && !endsBlock(st.Kind) {
		return errInFailedBlock
	}
	if (s.tx.write || s.tx.draft.written) && s.following() && !endsBlock(st.Kind) {
		return errCeasedToLead
	}
	s.statement = st
	if st.Notice != "" && p.rows == 0 {
		s.out.Notice(sqlstate.New(sqlstate.SuccessfulCompletion, "%s", st.Notice))
	}
	if !runsInSQLite(st.Kind) {
		return p.executeUtility(ctx)
	}
	if p.ended {
		return p.again()
	}
	p.rows = 0
	if p.held != nil {
		return p.executeHeld(ctx, maxRows)
	}
	if p.stmt == nil {
		p.whole = maxRows == 0
		if err := p.start(ctx); err != nil {
			return err
		}
	} else {
		p.lease.conn.begin(ctx, s)
	}
	more, err := p.step(maxRows, p.sendRow)
	if err != nil {
		return s.explain(err, p.lease.conn, st)
	}
	if more {
		s.out.PortalSuspended()
		return nil
	}
	tag := p.tag()
	if p.sum != nil {
		s.tx.draft.keep(p)
	}
	p.finish()
	s.complete(tag)
	return nil
}

// again answers the execution of a portal that has ended: no more rows, and no second effect.
func (p *portal) again() error {
	if p.statement.Kind != dialect.Select && !p.statement.Returning {
		return sqlstate.New("55000", "portal %q cannot be run", p.name)
	}
	p.rows = 0
	p.session.complete(p.tag())
	return nil
}

// start takes a connection and prepares the statement on it.
func (p *portal) start(ctx context.Context) error {
	s, st := p.session, p.statement
	write := writesByKind(st.Kind) || st.ForUpdate || (p.plan != nil && p.plan.changes)
	s.started++
	p.order = s.started
	var err error
	if p.lease, err = s.lease(ctx, write && !(p.whole && plain(st) && s.drafts())); err != nil {
		return err
	}
	if err := p.prepare(ctx, write); err != nil {
		p.close()
		return err
	}
	if p.simple && p.plan.fields != nil {
		s.out.RowDescription(p.fields())
	}
	return nil
}

// prepare gets the statement ready for its first step, in the draft of its transaction or not.
func (p *portal) prepare(ctx context.Context, write bool) error {
	s := p.session
	if err := s.guard(p.lease.conn, func() error { return p.makePlan(p.lease.conn) }); err != nil {
		return err
	}
	if s.tx.open() {
		if err := p.note(ctx, write); err != nil {
			return err
		}
		p.lease.conn = s.tx.conn
	}
	c := p.lease.conn
	return s.guard(c, func() (err error) {
		if err := p.makePlan(c); err != nil { // for a settled draft, whose schema is the newest
			return err
		}
		if p.stmt, err = c.take(p.plan.sql); err != nil {
			return err
		}
		if p.sum != nil {
			p.stmt.Status(sqlite3.STMTSTATUS_VM_STEP, true)
		}
		if p.plan.numbers != "" {
			c.sqlite.SetLastInsertRowID(0)
		}
		return bindValues(p.stmt, p.params)
	})
}

// makePlan makes the plan, or makes it anew if the schema has changed since the portal was bound: a
// writer waits for its turn, and meanwhile others may change the schema.
func (p *portal) makePlan(c *conn) error {
	s := p.session
	if p.plan != nil && s.fresh(p.plan) {
		return nil
	}
	var declared []oid.OID
	if p.prepared != nil {
		declared = p.prepared.declared
	}
	now, err := s.plan(c, p.statement, declared)
	switch {
	case err != nil:
		return err
	case p.plan == nil && len(now.params) > len(p.params):
		return sqlstate.New(sqlstate.UndefinedParameter, "there is no parameter $%d", len(now.params))
	case p.plan != nil && !(sameFields(p.plan.fields, now.fields) && slices.Equal(p.plan.params, now.params)):
		return errPlanChanged
	}
	p.plan = now
	return nil
}

func bindValues(stmt *sqlite3.Stmt, params []pgwire.Value) error {
	for i, v := range params {
		var err error
		switch v.Kind {
		case pgwire.Null:
			err = stmt.BindNull(i + 1)
		case pgwire.Int:
			err = stmt.BindInt64(i+1, v.Int)
		case pgwire.Float:
			err = stmt.BindFloat(i+1, v.Float)
		case pgwire.Text:
			err = stmt.BindRawText(i+1, v.Bytes)
		case pgwire.Blob:
			err = stmt.BindBlob(i+1, v.Bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// step reads up to maxRows rows and hands each to row. It says whether there may be more.
func (p *portal) step(maxRows int, row func() error) (more bool, err error) {
	err = p.session.guard(p.lease.conn, func() error {
		for n := 0; maxRows == 0 || n < maxRows; n++ {
			if !p.stmt.Step() {
				more = false
				return p.lease.conn.file.Because(p.stmt.Err())
			}
			if n == 0 && p.stmt.ColumnCount() != len(p.plan.fields) {
				return errPlanChanged // SQLite has seen a change of the schema that came after the plan
			}
			if err := row(); err != nil {
				return err
			}
			p.rows++
		}
		more = true
		return nil
	})
	return more, err
}

// sendRow writes the present row to the client.
func (p *portal) sendRow() error {
	out := p.session.out
	fields := p.plan.fields
	out.BeginRow(len(fields))
	for i := range fields {
		v := p.value(i)
		if p.sum != nil {
			addSum(p.sum, v)
		}
		if v.Kind == pgwire.Int && fields[i].Type == oid.Regproc && p.format(i) == pgwire.TextFormat {
			v = pgwire.Value{Kind: pgwire.Text, Bytes: []byte(pgcatalog.FunctionName(oid.OID(v.Int)))}
		}
		if err := out.Value(fields[i].Type, p.format(i), v); err != nil {
			return err
		}
	}
	return out.EndRow()
}

// value gives a column of the present row; its bytes are valid until the next one.
func (p *portal) value(i int) pgwire.Value {
	if p.held != nil {
		return p.held.row[i]
	}
	return columnValue(p.stmt, i)
}

// columnValue gives a column of the present row; its bytes are valid until the next step.
func columnValue(stmt *sqlite3.Stmt, i int) pgwire.Value {
	switch stmt.ColumnType(i) {
	case sqlite3.INTEGER:
		return pgwire.Value{Kind: pgwire.Int, Int: stmt.ColumnInt64(i)}
	case sqlite3.FLOAT:
		return pgwire.Value{Kind: pgwire.Float, Float: stmt.ColumnFloat(i)}
	case sqlite3.TEXT:
		return pgwire.Value{Kind: pgwire.Text, Bytes: stmt.ColumnRawText(i)}
	case sqlite3.BLOB:
		return pgwire.Value{Kind: pgwire.Blob, Bytes: stmt.ColumnRawBlob(i)}
	}
	return pgwire.Value{}
}

// tag is the command tag with its count of rows.
func (p *portal) tag() string {
	n := p.rows
	switch p.statement.Kind {
	case dialect.Insert, dialect.Update, dialect.Delete:
		if p.stmt != nil {
			n = p.lease.conn.sqlite.Changes()
			p.rows = n
			if p.plan.numbers != "" {
				p.session.numbers.note(p.plan.numbers, p.lease.conn.sqlite.LastInsertRowID(), true)
			}
		}
		if p.statement.Kind == dialect.Insert {
			return "INSERT 0 " + strconv.FormatInt(n, 10)
		}
		return p.statement.Tag + " " + strconv.FormatInt(n, 10)
	case dialect.Select:
		return "SELECT " + strconv.FormatInt(n, 10)
	}
	return p.statement.Tag
}

// finish ends the reading of rows; the portal itself stays, empty.
func (p *portal) finish() {
	p.ended = true
	p.close()
}

// close gives back the statement and the connection.
func (p *portal) close() {
	if p.stmt != nil {
		if c := p.lease.conn; !c.broken && c.cache != nil {
			c.put(p.plan.sql, p.stmt)
		}
		p.stmt = nil
	}
	if p.lease.give != nil {
		p.lease.give()
		p.lease = lease{}
	}
}

// drop ends the portal for good.
func (p *portal) drop() {
	p.close()
	if p.held != nil {
		p.held.close()
	}
}

// runsInSQLite says whether a statement is one statement of SQLite's, with or without rows.
func runsInSQLite(k dialect.Kind) bool {
	switch k {
	case dialect.Select, dialect.Insert, dialect.Update, dialect.Delete, dialect.Pragma:
		return true
	}
	return false
}
