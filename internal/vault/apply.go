package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"skein/internal/history"
)

// Session runs SQL on the present leader, in the database that a tail is applied to, over one connection.
type Session interface {
	// Query runs one statement and gives its rows as text; NULL is nil.
	Query(ctx context.Context, sql string) ([][]*string, error)
}

// Outcome is what became of one change.
type Outcome string

// The outcomes.
const (
	Applied  Outcome = "applied"
	Already  Outcome = "already" // the database is as if it had been applied
	Conflict Outcome = "conflict"
	Forced   Outcome = "forced" // a conflict that was applied all the same
)

// Finding is a change beside what the database has now.
type Finding struct {
	LSN     history.LSN
	Change  *Change // nil for a change of the schema
	DDL     *DDL
	Outcome Outcome
	Why     string    // of a conflict
	Present []*string // the row as it is now, in the order of Change.Table.Columns; nil if it is not there
}

// Result counts outcomes.
type Result struct {
	Applied, Already, Conflicts, Forced int64
}

// ApplyOptions of Apply.
type ApplyOptions struct {
	// DryRun finds the conflicts, and leaves the database as it is.
	DryRun bool
	// Force applies also what contradicts the present database.
	Force bool
	// Only chooses transactions; nil: all.
	Only func(*Transaction) bool
	// Report, if any, is told of every change.
	Report func(*Finding) error
}

// Apply brings the changes that a tail has made to one database into the database as it is now: all in one transaction. A change is
// applied if its row is what it was before the change; otherwise it is a conflict, as is what follows it on the same row. Rows
// that are inserted into a table without a primary key are never in conflict, so that they are inserted each time.
//
// The schema is not changed: a change of it is a conflict unless it is there already.
func (t *Tail) Apply(ctx context.Context, database history.DatabaseID, s Session, o ApplyOptions) (r Result, err error) {
	a := &applying{session: s, options: o}
	if err := a.run(ctx, "BEGIN"); err != nil {
		return r, err
	}
	err = t.Each(func(x *Transaction) error {
		if x.Database != database || o.Only != nil && !o.Only(x) {
			return nil
		}
		return a.transaction(ctx, x)
	})
	if err != nil || o.DryRun {
		return a.result, errors.Join(err, a.run(context.WithoutCancel(ctx), "ROLLBACK"))
	}
	return a.result, a.run(ctx, "COMMIT")
}

type applying struct {
	session Session
	options ApplyOptions
	result  Result
}

func (a *applying) run(ctx context.Context, sql string) error {
	_, err := a.session.Query(ctx, sql)
	return err
}

func (a *applying) transaction(ctx context.Context, x *Transaction) error {
	for i := range x.DDL {
		f := &Finding{LSN: x.LSN, DDL: &x.DDL[i]}
		if err := a.ddl(ctx, f); err != nil {
			return err
		}
		if err := a.note(f); err != nil {
			return err
		}
	}
	for i := range x.Changes {
		f := &Finding{LSN: x.LSN, Change: &x.Changes[i]}
		if err := a.change(ctx, f); err != nil {
			return err
		}
		if err := a.note(f); err != nil {
			return err
		}
	}
	return nil
}

func (a *applying) note(f *Finding) error {
	switch f.Outcome {
	case Applied:
		a.result.Applied++
	case Already:
		a.result.Already++
	case Conflict:
		a.result.Conflicts++
	case Forced:
		a.result.Forced++
	}
	if a.options.Report == nil {
		return nil
	}
	return a.options.Report(f)
}

// ddl looks whether the schema is as a change has made it.
func (a *applying) ddl(ctx context.Context, f *Finding) error {
	rows, err := a.session.Query(ctx, "SELECT sql FROM sqlite_schema WHERE type = "+quote(f.DDL.Type)+" AND name = "+quote(f.DDL.Name))
	if err != nil {
		return err
	}
	have := len(rows) > 0 && len(rows[0]) > 0 && rows[0][0] != nil
	f.Outcome = Already
	switch {
	case f.DDL.Kind == "drop" && !have, f.DDL.Kind != "drop" && have && *rows[0][0] == f.DDL.After:
	case f.DDL.Kind == "drop":
		f.Outcome, f.Why = Conflict, "it was dropped, and is there: DROP it, if that is still wanted"
	case have:
		f.Outcome, f.Why = Conflict, "it is there, and defined otherwise"
	default:
		f.Outcome, f.Why = Conflict, "it is not there: CREATE it first, then apply again"
	}
	return nil
}

// change applies one change if it may. What goes wrong with it takes nothing else with it.
func (a *applying) change(ctx context.Context, f *Finding) error {
	if err := a.run(ctx, "SAVEPOINT vault"); err != nil {
		return err
	}
	err := a.try(ctx, f)
	if err == nil {
		return a.run(ctx, "RELEASE SAVEPOINT vault")
	}
	if ctx.Err() != nil {
		return err
	}
	f.Outcome, f.Why = Conflict, err.Error()
	return errors.Join(a.run(ctx, "ROLLBACK TO SAVEPOINT vault"), a.run(ctx, "RELEASE SAVEPOINT vault"))
}

func (a *applying) try(ctx context.Context, f *Finding) error {
	c := f.Change
	if len(c.Table.Columns) == 0 {
		return errors.New("the statement that made its table is not understood")
	}
	if c.Before == nil && len(c.Table.key) == 0 {
		f.Outcome = Applied
		return a.run(ctx, c.SQL())
	}
	at := c.Before
	if at == nil {
		at = c.After
	}
	here, err := a.look(ctx, c, at)
	if err != nil {
		return err
	}
	f.Present = here.row
	switch {
	case c.Before == nil && here.row == nil, c.Before != nil && here.asBefore:
		f.Outcome = Applied
		return a.run(ctx, c.SQL())
	case c.After == nil && here.row == nil, c.After != nil && here.asAfter:
		f.Outcome = Already
		return nil
	}
	if c.Before != nil && c.After != nil && here.row == nil { // under another key, maybe
		moved, err := a.look(ctx, c, c.After)
		if err != nil {
			return err
		}
		if moved.asAfter {
			f.Outcome, f.Present = Already, moved.row
			return nil
		}
	}
	f.Outcome, f.Why = Conflict, "the row is another than it was before the change"
	if here.row == nil {
		f.Why = "the row is not there any more"
	}
	if c.Before == nil {
		f.Why = "there is a row with this key"
	}
	if !a.options.Force {
		return nil
	}
	f.Outcome = Forced
	return a.run(ctx, c.forced(here.row != nil))
}

// forced is a statement that makes the row what it was after the change, whatever it is now.
func (c *Change) forced(there bool) string {
	switch {
	case c.After != nil && !there:
		return c.insert()
	case c.Before == nil: // every column of the row that there is
		whole := Change{c.Table, &Row{Rowid: c.After.Rowid, Values: make([]Value, len(c.After.Values))}, c.After}
		for i := range whole.Before.Values {
			whole.Before.Values[i].Kind = Missing
		}
		for _, i := range c.Table.key {
			whole.Before.Values[i] = c.After.Values[i]
		}
		return whole.update()
	}
	return c.SQL()
}

// present is a row as it is now.
type present struct {
	row               []*string // nil if there is none
	asBefore, asAfter bool
}

// look reads a row, and has the database compare it.
func (a *applying) look(ctx context.Context, c *Change, at *Row) (p present, err error) {
	list := []string{c.Table.equals(c.Before), c.Table.equals(c.After)}
	for _, column := range c.Table.Columns {
		list = append(list, "CAST("+name(column.Name)+" AS text)")
	}
	rows, err := a.session.Query(ctx, "SELECT "+strings.Join(list, ", ")+" FROM "+name(c.Table.Name)+" WHERE "+c.Table.where(at))
	if err != nil || len(rows) == 0 {
		return p, err
	}
	if len(rows[0]) != len(list) {
		return p, fmt.Errorf("%d columns where %d were asked for", len(rows[0]), len(list))
	}
	is := func(text *string) bool { return text != nil && *text == "1" }
	return present{rows[0][2:], is(rows[0][0]), is(rows[0][1])}, nil
}

// equals is an expression that is 1 for a row with these values, and 0 for others.
func (t *Table) equals(r *Row) string {
	if r == nil {
		return "0"
	}
	var list []string
	for i, c := range t.Columns {
		if v := r.Values[i]; v.Kind != Missing {
			list = append(list, name(c.Name)+" IS NOT DISTINCT FROM "+c.literal(v))
		}
	}
	if len(list) == 0 {
		return "1"
	}
	return "CASE WHEN " + strings.Join(list, " AND ") + " THEN 1 ELSE 0 END"
}
