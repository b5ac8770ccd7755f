package engine

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/dialect"
	"skein/internal/history"
	"skein/internal/oid"
	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

func textField(name string) pgwire.Field { return pgwire.Field{Name: name, Type: oid.Text, Mod: -1} }

// utilityFields gives the rows that a statement of the engine's own returns, nil for none.
func utilityFields(s *Session, st *dialect.Statement) []pgwire.Field {
	switch st.Kind {
	case dialect.Show:
		if st.Set.Name == "all" {
			return []pgwire.Field{textField("name"), textField("setting"), textField("description")}
		}
		name := st.Set.Name
		if p := parameters[name]; p != nil {
			name = p.name
		}
		return []pgwire.Field{textField(name)}
	case dialect.Explain:
		return []pgwire.Field{textField("QUERY PLAN")}
	case dialect.Wait:
		return []pgwire.Field{textField("status")}
	case dialect.Fetch:
		if c := s.cursors[st.Cursor.Name]; c != nil && c.plan != nil {
			return c.plan.fields
		}
	case dialect.Execute:
		if p := s.statements[st.Prepare.Name]; p != nil && p.plan != nil {
			return p.plan.fields
		}
	}
	return nil
}

// executeUtility runs a statement that is not one of SQLite's.
func (p *portal) executeUtility(ctx context.Context) error {
	if p.ended {
		return p.again()
	}
	tag, err := p.utility(ctx)
	if err != nil {
		return err
	}
	p.ended = true
	if tag != "" {
		p.session.complete(tag)
	}
	return nil
}

// utility gives the command tag, or "" when the statement has written its own.
func (p *portal) utility(ctx context.Context) (string, error) {
	s, st := p.session, p.statement
	if !s.leavesDraft(st) {
		if err := s.unrepeatable(ctx, false); err != nil {
			return "", err
		}
	}
	switch st.Kind {
	case dialect.Begin:
		return st.Tag, s.runBegin(st.Txn)
	case dialect.Commit:
		return s.runCommit(ctx, st.Txn)
	case dialect.Rollback:
		return st.Tag, s.runRollback(st.Txn)
	case dialect.Savepoint, dialect.Release, dialect.RollbackTo:
		return st.Tag, s.runSavepoint(ctx, st.Kind, st.Name)
	case dialect.SetTransaction:
		return st.Tag, s.runSetTransaction(st.Txn)
	case dialect.Set, dialect.Reset:
		if !p.simple && !s.tx.open() { // an error before Sync undoes it
			s.tx.start(s, true)
		}
		return st.Tag, s.runSet(st)
	case dialect.Show:
		return st.Tag, p.runShow(st.Set.Name)
	case dialect.Explain:
		return st.Tag, p.runExplain(ctx)
	case dialect.Wait:
		return st.Tag, p.runWait(ctx, st.Wait)
	case dialect.SetConstraints:
		return st.Tag, s.runSetConstraints(ctx, st.Deferred)
	case dialect.Copy:
		return p.runCopy(ctx)
	case dialect.Prepare:
		return st.Tag, s.runPrepare(ctx, st.Prepare)
	case dialect.Execute:
		return "", p.runExecute(ctx)
	case dialect.Deallocate:
		return st.Tag, s.runDeallocate(st.Name)
	case dialect.Discard:
		return st.Tag, s.runDiscard(st.Name)
	case dialect.DeclareCursor, dialect.Fetch, dialect.Move, dialect.CloseCursor:
		return p.runCursor(ctx)
	case dialect.Unlisten, dialect.Grant, dialect.Revoke, dialect.NoOp, dialect.Comment:
		return st.Tag, nil
	case dialect.Listen, dialect.Notify:
		return "", sqlstate.New(sqlstate.FeatureNotSupported, "%s is not supported", st.Tag)
	case dialect.Lock:
		return st.Tag, s.runLock(ctx, strings.TrimSuffix(st.Name, " MODE"))
	case dialect.Checkpoint:
		return st.Tag, s.engine.storage.Checkpoint()
	case dialect.Vacuum:
		return st.Tag, s.runVacuum(ctx, st)
	case dialect.CreateDatabase:
		if err := s.alone(st.Tag); err != nil {
			return "", err
		}
		return st.Tag, s.createDatabase(ctx, st.Database)
	case dialect.DropDatabase:
		if err := s.alone(st.Tag); err != nil {
			return "", err
		}
		return st.Tag, s.dropDatabase(ctx, st.Database)
	case dialect.CreateRole:
		return st.Tag, s.createRole(ctx, st.Role)
	case dialect.AlterSystem:
		if err := s.alone(st.Tag); err != nil {
			return "", err
		}
		return st.Tag, s.alterSystem(ctx, st.Set)
	case dialect.AlterDatabase:
		if st.Set != nil {
			return st.Tag, s.alterDatabaseSetting(ctx, st.Database.Name, st.Set)
		}
	case dialect.AlterRole:
		if st.Set != nil {
			return st.Tag, s.alterRoleSetting(ctx, st.Role.Name, st.Role.Database, st.Set)
		}
		role := *st.Role // statements are shared; alterRole resolves current_user
		return st.Tag, s.alterRole(ctx, &role)
	case dialect.DropRole:
		return st.Tag, s.dropRoles(ctx, st.Names, st.IfExists)
	case dialect.AlterRebuild:
		return st.Tag, s.schemaChange(ctx, func(c *conn) error { return s.rebuild(c, st.Rebuild) })
	case dialect.RenameIndex:
		return st.Tag, s.schemaChange(ctx, func(c *conn) error { return s.renameIndex(c, st.Names[0], st.Names[1], st.IfExists) })
	case dialect.CreateTableAs:
		return s.createTableAs(ctx, st)
	case dialect.DDL:
		return st.Tag, s.runDDL(ctx, st)
	case dialect.Truncate:
		return st.Tag, s.runTruncate(ctx, st)
	case dialect.Analyze, dialect.Reindex:
		return st.Tag, s.runScript(ctx, st.SQL)
	case dialect.CreateSchema:
		if st.Name == "public" && st.IfExists {
			return st.Tag, nil
		}
	}
	return "", sqlstate.New(sqlstate.FeatureNotSupported, "%s is not supported", st.Tag)
}

func (s *Session) runSetTransaction(o *dialect.TxnOptions) error {
	if !o.Session {
		if !s.tx.block {
			s.out.Notice(sqlstate.New(sqlstate.NoActiveTransaction, "SET TRANSACTION can only be used in transaction blocks"))
			return nil
		}
		return s.setModes(o)
	}
	if o.Isolation != "" {
		s.change("default_transaction_isolation", isolationOf(o.Isolation), false)
	}
	if o.ReadOnly != dialect.Unset {
		s.change("default_transaction_read_only", onOff(o.ReadOnly == dialect.On), false)
	}
	return nil
}

func (s *Session) runSet(st *dialect.Statement) error {
	v := st.Set
	switch {
	case v.Name == "all":
		return s.resetAll()
	case v.Local && !s.tx.open():
		s.out.Notice(sqlstate.New(sqlstate.NoActiveTransaction, "SET LOCAL can only be used in transaction blocks"))
		return nil
	case st.Kind == dialect.Reset || v.Default:
		return s.reset(v.Name, v.Local)
	}
	return s.set(v.Name, v.Value, v.Local)
}

func (p *portal) runShow(name string) error {
	s := p.session
	fields := utilityFields(s, p.statement)
	var rows [][]string
	if name == "all" {
		for _, n := range slices.Sorted(maps.Keys(parameters)) {
			value, _ := s.show(n)
			rows = append(rows, []string{parameters[n].name, value, ""})
		}
	} else {
		value, ok := s.show(name)
		if !ok {
			return sqlstate.New(sqlstate.UndefinedObject, "unrecognized configuration parameter %q", name)
		}
		rows = [][]string{{value}}
	}
	if p.simple {
		s.out.RowDescription(fields)
	}
	for _, row := range rows {
		if err := p.sendTexts(row); err != nil {
			return err
		}
	}
	return nil
}

// runExplain shows SQLite's plan as PostgreSQL shows its own: one column of indented lines.
func (p *portal) runExplain(ctx context.Context) error {
	s := p.session
	var rows [][]string
	err := s.borrow(ctx, func(c *conn) error {
		depth := map[int]int{}
		return c.query(p.statement.SQL[0], func(st *sqlite3.Stmt) {
			level := 0
			if parent, ok := depth[st.ColumnInt(1)]; ok {
				level = parent + 1
			}
			depth[st.ColumnInt(0)] = level
			line := st.ColumnText(3)
			if level > 0 {
				line = strings.Repeat("      ", level-1) + "  ->  " + line
			}
			rows = append(rows, []string{line})
		})
	})
	if err != nil {
		return err
	}
	if p.simple {
		s.out.RowDescription(utilityFields(s, p.statement))
	}
	for _, row := range rows {
		if err := p.sendTexts(row); err != nil {
			return err
		}
	}
	return nil
}

func (p *portal) sendTexts(row []string) error {
	out := p.session.out
	out.BeginRow(len(row))
	for i, v := range row {
		if err := out.Value(oid.Text, p.format(i), pgwire.Value{Kind: pgwire.Text, Bytes: []byte(v)}); err != nil {
			return err
		}
	}
	return out.EndRow()
}

func (s *Session) runSetConstraints(ctx context.Context, deferred bool) error {
	if !s.tx.block {
		s.out.Notice(sqlstate.New(sqlstate.NoActiveTransaction, "SET CONSTRAINTS can only be used in transaction blocks"))
		return nil
	}
	l, err := s.lease(ctx, false)
	if err != nil {
		return err
	}
	defer l.give()
	if !deferred { // SQLite would forget what was put off
		violations, _, err := l.conn.sqlite.Status(sqlite3.DBSTATUS_DEFERRED_FKS, false)
		if err != nil {
			return err
		}
		if violations > 0 {
			return sqlite3.CONSTRAINT_FOREIGNKEY
		}
	}
	if err := l.conn.exec(deferForeignKeys(deferred)); err != nil {
		return err
	}
	s.tx.deferred = deferred
	return nil
}

// deferForeignKeys has foreign keys looked at by the COMMIT of the transaction that is open, or at once.
func deferForeignKeys(deferred bool) string { return "PRAGMA defer_foreign_keys=" + onOff(deferred) }

func (s *Session) runPrepare(ctx context.Context, st *dialect.PrepareStmt) error {
	if s.statements[st.Name] != nil {
		return sqlstate.New(sqlstate.DuplicatePreparedStmt, "prepared statement %q already exists", st.Name)
	}
	p := &prepared{statement: st.Query, declared: st.Types}
	if err := s.prepare(ctx, p); err != nil {
		return err
	}
	s.statements[st.Name] = p
	return nil
}

// runExecute runs EXECUTE name (arguments): the arguments are one SELECT.
func (p *portal) runExecute(ctx context.Context) error {
	s, st := p.session, p.statement
	target, err := s.current(ctx, st.Prepare.Name)
	if err != nil {
		return err
	}
	if target.statement == nil || target.statement.Kind == dialect.Execute { // which might be of itself
		return sqlstate.New(sqlstate.FeatureNotSupported, "EXECUTE does not run prepared statement %q: it is empty, or an EXECUTE itself", st.Prepare.Name)
	}
	inner := &portal{session: s, prepared: target, statement: target.statement, plan: target.plan, simple: p.simple, formats: p.formats}
	if len(st.SQL) > 0 {
		if inner.params, err = s.arguments(ctx, st); err != nil {
			return err
		}
		for i, t := range target.plan.params[:min(len(inner.params), len(target.plan.params))] {
			if inner.params[i], err = s.argument(inner.params[i], t); err != nil {
				return err
			}
		}
	}
	if len(inner.params) != len(target.plan.params) {
		return sqlstate.New(sqlstate.SyntaxError, "wrong number of parameters for prepared statement %q", st.Prepare.Name).
			WithDetail("Expected %d parameters but got %d.", len(target.plan.params), len(inner.params))
	}
	defer inner.close()
	return inner.execute(ctx, 0)
}

// arguments evaluates the arguments of EXECUTE. They are a query of their own: what functions such as nextval and lastval do and tell belongs
// to the transaction.
func (s *Session) arguments(ctx context.Context, st *dialect.Statement) (values []pgwire.Value, err error) {
	query := *st
	query.Kind = dialect.Select
	p := &portal{session: s, statement: &query, whole: true}
	defer p.close()
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	_, err = p.step(0, func() error {
		for i := range p.plan.fields {
			v := columnValue(p.stmt, i)
			v.Bytes = slices.Clone(v.Bytes)
			values = append(values, v)
			if p.sum != nil {
				addSum(p.sum, v)
			}
		}
		return nil
	})
	if err == nil && p.sum != nil {
		s.tx.draft.keep(p)
	}
	return values, err
}

// argument gives a literal the type of its parameter: '41' for an integer is a number.
func (s *Session) argument(v pgwire.Value, t dialect.ParamType) (pgwire.Value, error) {
	if v.Kind != pgwire.Text || t.OID == oid.Unspecified {
		return v, nil
	}
	return pgwire.Decode(t.OID, t.Mod, pgwire.TextFormat, v.Bytes, s.out.Env())
}

func (s *Session) runDeallocate(name string) error {
	if name == "" {
		clear(s.statements)
		return nil
	}
	if s.statements[name] == nil {
		return sqlstate.New(sqlstate.InvalidStatementName, "prepared statement %q does not exist", name)
	}
	s.dropStatement(name)
	return nil
}

func (s *Session) runDiscard(what string) error {
	if what == "ALL" && s.tx.block {
		return sqlstate.New(sqlstate.ActiveTransaction, "DISCARD ALL cannot run inside a transaction block")
	}
	switch what {
	case "PLANS":
		return nil
	case "SEQUENCES":
		s.numbers = numbers{}
		return nil
	case "ALL":
		s.numbers = numbers{}
		clear(s.statements)
		_ = s.closeCursor("")
		s.closePortals(0)
		s.engine.locks.releaseSession(s)
		if err := s.resetAll(); err != nil {
			return err
		}
	}
	if s.own != nil && s.tx.conn == nil {
		s.closePortals(0)
		s.own.close()
		s.own = nil
		s.edits++
	}
	return nil
}

// runLock: there is one writer, so every lock that would keep others from writing is its turn.
func (s *Session) runLock(ctx context.Context, mode string) error {
	if !s.tx.block {
		return sqlstate.New(sqlstate.NoActiveTransaction, "LOCK TABLE can only be used in transaction blocks")
	}
	if mode == "ACCESS SHARE" {
		return nil
	}
	_, err := s.lease(ctx, true)
	return err
}

// runVacuum: VACUUM of the whole database rewrites it; of single tables there is nothing to do but to
// gather statistics, because pages are reused at once.
func (s *Session) runVacuum(ctx context.Context, st *dialect.Statement) error {
	if err := s.alone("VACUUM"); err != nil {
		return err
	}
	if len(st.Tables) > 0 {
		if st.Vacuum == nil || !st.Vacuum.Analyze {
			return s.requireTables(ctx, st.Tables)
		}
		for _, t := range st.Tables {
			if err := s.runScript(ctx, []string{"ANALYZE " + quote(t)}); err != nil {
				return err
			}
		}
		return s.endImplicit(ctx)
	}
	if err := s.vacuum(ctx); err != nil {
		return err
	}
	if st.Vacuum != nil && st.Vacuum.Analyze {
		return s.runScript(ctx, []string{"ANALYZE"})
	}
	return nil
}

func (s *Session) vacuum(ctx context.Context) error {
	if s.readOnly() {
		return s.refuseWrite()
	}
	if err := s.unnameable(); err != nil {
		return err
	}
	lsn, err := s.vacuumed(ctx)
	if err != nil {
		return err
	}
	if err := s.await(ctx, lsn, s.level()); err != nil {
		return err
	}
	s.committed(lsn, s.causality)
	return nil
}

// vacuumed gives the entry that VACUUM has made.
func (s *Session) vacuumed(ctx context.Context) (history.LSN, error) {
	if err := s.takeTurn(ctx); err != nil {
		return 0, err
	}
	defer s.db.writer.give()
	c, err := s.db.takeWriter()
	if err != nil {
		return 0, err
	}
	defer s.db.giveWriter(c)
	c.begin(ctx, s)
	c.file.PinHead(true)
	c.own = true // it copies every table
	defer func() { c.own = false }()
	err = s.guard(c, func() error { return c.exec("VACUUM") })
	return c.file.TakeCommit(), err
}

func (s *Session) requireTables(ctx context.Context, tables []string) error {
	return s.borrow(ctx, func(c *conn) error {
		for _, t := range tables {
			if found, err := c.exists(t); err != nil {
				return err
			} else if !found {
				return sqlstate.New(sqlstate.UndefinedTable, "relation %q does not exist", t)
			}
		}
		return nil
	})
}

// exists says whether there is a table, index or view of this name.
func (c *conn) exists(name string) (found bool, err error) {
	err = c.query("SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE UNION ALL SELECT 1 FROM sqlite_temp_schema WHERE name = ?1 COLLATE NOCASE",
		func(*sqlite3.Stmt) { found = true }, name)
	return found, err
}

// runTruncate empties tables in any order. Rows that other tables refer to must not go by way of it.
func (s *Session) runTruncate(ctx context.Context, st *dialect.Statement) error {
	l, err := s.lease(ctx, true)
	if err != nil {
		return err
	}
	defer l.give()
	return s.guard(l.conn, func() error {
		for _, name := range st.Tables {
			from, err := l.conn.referrer(name, st.Tables)
			if err != nil {
				return err
			}
			if from != "" {
				return sqlstate.New(sqlstate.FeatureNotSupported, "cannot truncate a table referenced in a foreign key constraint").
					WithDetail("Table %q references %q.", from, name).
					WithHint("Truncate table %q at the same time.", from)
			}
		}
		return l.conn.withoutForeignKeys(st.SQL)
	})
}

// runScript runs several statements of SQLite's as one.
func (s *Session) runScript(ctx context.Context, script []string) error {
	l, err := s.lease(ctx, true)
	if err != nil {
		return err
	}
	defer l.give()
	return s.guard(l.conn, func() error { return l.conn.script(script) })
}
