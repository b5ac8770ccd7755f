package engine

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/dialect"
	"skein/internal/oid"
	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

// column is a table's column as COPY needs it.
type column struct {
	name string
	typ  oid.OID
	mod  int32
}

// runCopy runs COPY FROM STDIN and COPY TO STDOUT. What arrives is one transaction: all of it or none.
func (p *portal) runCopy(ctx context.Context) (string, error) {
	o := p.statement.Copy
	if o.From {
		return p.copyIn(ctx, o)
	}
	return p.copyOut(ctx, o)
}

func (p *portal) copyIn(ctx context.Context, o *dialect.CopyOptions) (string, error) {
	s := p.session
	l, err := s.lease(ctx, true)
	if err != nil {
		return "", err
	}
	defer l.give()
	c := l.conn
	var n int64
	numbered := "" // the table, if it numbers the rows
	err = s.guard(c, func() error {
		columns, err := c.columns(o.Table, o.Columns)
		if err != nil {
			return err
		}
		if serial := typesOn(c).table(o.Table).serial(); serial != "" && !slices.ContainsFunc(columns, func(c column) bool { return c.name == serial }) {
			numbered = o.Table
		}
		insert := insertInto(o.Table, columns)
		st, err := c.take(insert)
		if err != nil {
			return err
		}
		defer c.put(insert, st)
		data, err := s.out.CopyIn(copyWireFormat(o), slices.Repeat([]int16{copyWireFormat(o)}, len(columns)))
		if err != nil {
			return err
		}
		// After an error the client hears of it at once; what it has sent by then is passed over.
		n, err = s.copyRows(pgwire.NewCopyDecoder(data, copyFormat(o, columns), len(columns)), o, columns, st)
		return err
	})
	if err == nil && n > 0 && numbered != "" {
		s.numbers.note(numbered, c.sqlite.LastInsertRowID(), true)
	}
	return "COPY " + strconv.FormatInt(n, 10), err
}

// copyRows inserts rows until the data ends.
func (s *Session) copyRows(rows *pgwire.CopyDecoder, o *dialect.CopyOptions, columns []column, st *sqlite3.Stmt) (n int64, err error) {
	values := make([]pgwire.Value, len(columns))
	env, format := s.out.Env(), copyWireFormat(o)
	for {
		fields, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		for i, f := range fields {
			if values[i], err = pgwire.Decode(columns[i].typ, columns[i].mod, format, f, env); err != nil {
				return n, copyError(err, o.Table, columns[i].name, rows.Line())
			}
		}
		if err := bindValues(st, values); err != nil {
			return n, err
		}
		if err := st.Exec(); err != nil {
			return n, s.withCopyLine(err, o.Table, rows.Line())
		}
		n++
	}
}

// withCopyLine says in which line of the data a constraint was violated.
func (s *Session) withCopyLine(err error, table string, line int) error {
	if !errors.Is(err, sqlite3.CONSTRAINT) {
		return err
	}
	err = s.explain(err, s.tx.conn, &dialect.Statement{Kind: dialect.Insert, Table: table})
	var e *sqlstate.Error
	if !errors.As(s.translate(err), &e) {
		return err
	}
	with := *e
	with.Detail = strings.TrimSpace(e.Detail + " COPY " + table + ", line " + strconv.Itoa(line))
	return &with
}

func copyError(err error, table, column string, line int) error {
	var e *sqlstate.Error
	if !errors.As(err, &e) {
		return err
	}
	with := *e
	with.Detail = strings.TrimSpace(e.Detail + " COPY " + table + ", line " + strconv.Itoa(line) + ", column " + column)
	return &with
}

func insertInto(table string, columns []column) string {
	names, marks := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		names[i], marks[i] = quote(c.name), "?"+strconv.Itoa(i+1)
	}
	return "INSERT INTO " + quote(table) + " (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(marks, ", ") + ")"
}

// columns gives the named columns of a table, or all.
func (c *conn) columns(name string, names []string) ([]column, error) {
	known := typesOn(c)
	types := known.table(name)
	if err := known.complete(); err != nil {
		return nil, err
	}
	var all []column
	if err := c.query("SELECT name, type, hidden FROM pragma_table_xinfo(?1)", func(st *sqlite3.Stmt) {
		if st.ColumnInt(2) > 1 { // generated
			return
		}
		t, mod := oid.Declared(st.ColumnText(1))
		if types.text != nil && types.text.Column(st.ColumnText(0)) != nil {
			t, mod = types.text.Column(st.ColumnText(0)).Type()
		}
		if t == oid.Unspecified {
			t = oid.Text
		}
		all = append(all, column{st.ColumnText(0), t, mod})
	}, name); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, sqlstate.New(sqlstate.UndefinedTable, "relation %q does not exist", name)
	}
	if len(names) == 0 {
		return all, nil
	}
	chosen := make([]column, 0, len(names))
	for _, n := range names {
		i := slices.IndexFunc(all, func(c column) bool { return strings.EqualFold(c.name, n) })
		if i < 0 {
			return nil, sqlstate.New(sqlstate.UndefinedColumn, "column %q of relation %q does not exist", n, name)
		}
		if slices.Contains(chosen, all[i]) {
			return nil, sqlstate.New(sqlstate.DuplicateColumn, "column %q specified more than once", n)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func copyWireFormat(o *dialect.CopyOptions) int16 {
	if o.Format == "binary" {
		return pgwire.BinaryFormat
	}
	return pgwire.TextFormat
}

func copyFormat(o *dialect.CopyOptions, columns []column) pgwire.CopyFormat {
	chosen := func(names []string) []bool {
		if len(names) == 0 {
			return nil
		}
		b := make([]bool, len(columns))
		for i, c := range columns {
			b[i] = names[0] == "*" || slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, c.name) })
		}
		return b
	}
	return pgwire.CopyFormat{
		Format: o.Format, Delimiter: o.Delimiter, Quote: o.Quote, Escape: o.Escape, Null: o.Null, NullSet: true, Header: o.Header,
		ForceQuote: chosen(o.ForceQuote), ForceNotNull: chosen(o.ForceNotNull), ForceNull: chosen(o.ForceNull),
	}
}

func (p *portal) copyOut(ctx context.Context, o *dialect.CopyOptions) (string, error) {
	s, format := p.session, copyWireFormat(o)
	q := &portal{session: s, statement: o.Query}
	defer q.close()
	if err := q.start(ctx); err != nil {
		return "", err
	}
	fields := q.plan.fields
	columns, names := make([]column, len(fields)), make([]string, len(fields))
	for i, f := range fields {
		columns[i], names[i] = column{f.Name, f.Type, f.Mod}, f.Name
	}
	enc := pgwire.NewCopyEncoder(copyFormat(o, columns))
	s.out.CopyOut(format, slices.Repeat([]int16{format}, len(fields)))
	buf := enc.Header(nil, names)
	if len(buf) > 0 {
		if err := s.out.CopyData(buf); err != nil {
			return "", err
		}
	}
	values, ends, cells := []byte{}, make([]int, len(fields)), make([][]byte, len(fields))
	_, err := q.step(0, func() (err error) {
		values = values[:0]
		for i, f := range fields {
			v := columnValue(q.stmt, i)
			if ends[i] = -1; v.Kind == pgwire.Null {
				continue
			}
			if values, err = pgwire.Append(values, f.Type, format, v, s.out.Env()); err != nil {
				return err
			}
			ends[i] = len(values)
		}
		at := 0
		for i, end := range ends {
			if cells[i] = nil; end >= 0 {
				cells[i], at = values[at:end:end], end
			}
		}
		buf = enc.Row(buf[:0], cells)
		return s.out.CopyData(buf)
	})
	if err != nil {
		return "", err
	}
	if buf = enc.Trailer(buf[:0]); len(buf) > 0 {
		if err := s.out.CopyData(buf); err != nil {
			return "", err
		}
	}
	s.out.CopyDone()
	return "COPY " + strconv.FormatInt(q.rows, 10), nil
}
