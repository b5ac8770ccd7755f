package dialect

import (
	"strings"

	"skein/internal/sqlstate"
)

// utility reads the statements that have no rows of tables in them.
func (p *parser) utility(word string) {
	switch word {
	case "begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release":
		p.transaction(word)
	case "set", "reset", "show":
		p.variable(word)
	case "copy":
		p.copyStatement()
	case "prepare", "execute", "deallocate", "discard":
		p.prepared(word)
	case "declare", "fetch", "move", "close":
		p.cursor(word)
	case "listen", "unlisten", "notify":
		p.channel(word)
	case "lock", "truncate", "vacuum", "analyze", "analyse", "reindex", "checkpoint":
		p.maintenance(word)
	case "explain":
		p.explain()
	case "comment":
		p.comment()
	case "grant", "revoke":
		p.grant(word)
	case "pragma":
		p.pragma()
	default:
		p.syntaxError()
	}
}

func (p *parser) kind(k Kind, tag string) { p.st.Kind, p.st.Tag = k, tag }

// sql gives SQLite the edited tokens.
func (p *parser) sql() {
	if p.err == nil {
		p.st.SQL = []string{p.render(p.toks)}
	}
}

// prepared reads PREPARE, EXECUTE, DEALLOCATE and DISCARD.
func (p *parser) prepared(word string) {
	p.next()
	switch word {
	case "prepare":
		p.prepare()
	case "execute":
		p.execute()
	case "deallocate":
		p.accept("prepare")
		p.kind(Deallocate, "DEALLOCATE")
		if p.accept("all") {
			p.st.Tag = "DEALLOCATE ALL"
		} else {
			p.st.Name = p.name()
		}
		p.finish()
	case "discard":
		p.discard()
	}
}

func (p *parser) discard() {
	p.kind(Discard, "DISCARD")
	switch word := p.next().word; word {
	case "all", "plans", "sequences", "temp":
		p.st.Name = strings.ToUpper(word)
	case "temporary":
		p.st.Name = "TEMP"
	default:
		p.i--
		p.syntaxError()
	}
	p.st.Tag = "DISCARD " + p.st.Name
	p.finish()
}

func (p *parser) prepare() {
	if p.is("transaction") {
		p.unsupported(p.i, "PREPARE TRANSACTION is")
	}
	p.kind(Prepare, "PREPARE")
	s := &PrepareStmt{Name: p.name()}
	if p.accept("(") {
		for !p.dead() {
			if t := p.typeNameAt(); t.typ != nil {
				s.Types = append(s.Types, t.typ.OID)
			}
			if !p.accept(",") {
				break
			}
		}
		p.expect(")")
	}
	p.expect("as")
	s.Query = p.nested(len(p.toks) - 1)
	p.st.Prepare = s
	// Its parameters are those of the inner statement, not of PREPARE itself.
	p.st.NumParams, p.st.ParamTypes = 0, nil
}

func (p *parser) execute() {
	p.kind(Execute, "EXECUTE")
	p.st.Prepare = &PrepareStmt{Name: p.name()}
	if p.accept("(") {
		start := p.i
		p.list()
		end := p.i
		p.expect(")")
		if !p.dead() {
			p.st.SQL = []string{"SELECT " + p.text(start, end)}
		}
	}
	if p.lost {
		p.lost, p.i = false, 0
		p.syntaxError()
	}
	p.finish()
}

// cursor reads DECLARE, FETCH, MOVE and CLOSE.
func (p *parser) cursor(word string) {
	p.next()
	switch word {
	case "declare":
		p.declare()
	case "fetch":
		p.kind(Fetch, "FETCH")
		p.fetch()
	case "move":
		p.kind(Move, "MOVE")
		p.fetch()
	case "close":
		p.kind(CloseCursor, "CLOSE CURSOR")
		if p.accept("all") {
			p.st.Tag = "CLOSE CURSOR ALL"
		} else {
			p.st.Name = p.name()
		}
		p.finish()
	}
}

func (p *parser) declare() {
	p.kind(DeclareCursor, "DECLARE CURSOR")
	c := &CursorStmt{Name: p.name()}
	for !p.dead() && !p.accept("cursor") {
		switch {
		case p.accept("binary"):
			c.Binary = true
		case p.accept("insensitive"), p.accept("asensitive"):
		case p.accept("no", "scroll"):
			c.Scroll = Off
		case p.accept("scroll"):
			c.Scroll = On
		default:
			p.syntaxError()
		}
	}
	if p.accept("with", "hold") {
		c.Hold = true
	} else {
		p.accept("without", "hold")
	}
	p.expect("for")
	if p.isAny("insert", "update", "delete") {
		p.syntaxError()
	}
	c.Query = p.nested(len(p.toks) - 1)
	p.st.Cursor = c
}

// fetch reads the direction and the cursor of FETCH and MOVE.
func (p *parser) fetch() {
	c := &CursorStmt{Count: 1}
	p.direction(c)
	if !p.accept("from") {
		p.accept("in")
	}
	c.Name = p.name()
	p.st.Cursor = c
	p.finish()
}

func (p *parser) direction(c *CursorStmt) {
	if p.peek(1).kind == tokenEnd {
		return
	}
	switch {
	case p.accept("next"), p.accept("first"), p.accept("last"), p.accept("prior"):
		switch p.toks[p.i-1].word {
		case "first":
			c.Direction = Absolute
		case "last":
			c.Direction, c.Count = Absolute, -1
		case "prior":
			c.Direction = Backward
		}
	case p.accept("absolute"):
		c.Direction = Absolute
		p.count(c, true)
	case p.accept("relative"):
		c.Direction = Relative
		p.count(c, true)
	case p.accept("forward"):
		p.count(c, false)
	case p.accept("backward"):
		c.Direction = Backward
		p.count(c, false)
	default:
		p.count(c, false)
	}
}

// count reads a number or ALL.
func (p *parser) count(c *CursorStmt, required bool) {
	if p.accept("all") {
		c.All = true
		return
	}
	n, ok := p.integer()
	if ok {
		c.Count = n
	} else if required {
		p.syntaxError()
	}
}

func (p *parser) channel(word string) {
	p.next()
	switch word {
	case "listen":
		p.kind(Listen, "LISTEN")
	case "unlisten":
		p.kind(Unlisten, "UNLISTEN")
		if p.accept("*") {
			p.finish()
			return
		}
	case "notify":
		p.kind(Notify, "NOTIFY")
	}
	p.st.Name = p.name()
	if word == "notify" && p.accept(",") {
		p.st.Payload = p.stringValue()
	}
	p.finish()
}

func (p *parser) maintenance(word string) {
	p.next()
	switch word {
	case "lock":
		p.lock()
	case "truncate":
		p.truncate()
	case "vacuum":
		p.vacuum()
	case "analyze", "analyse":
		p.analyze()
	case "reindex":
		p.reindex()
	case "checkpoint":
		p.kind(Checkpoint, "CHECKPOINT")
		p.finish()
	}
}

// tables reads a list of table names into the statement.
func (p *parser) tables() {
	for !p.dead() {
		p.drop("only")
		p.st.Tables = append(p.st.Tables, p.dottedName())
		p.accept("*")
		if !p.accept(",") {
			break
		}
	}
	if len(p.st.Tables) > 0 {
		p.st.Table = p.st.Tables[0]
	}
}

func (p *parser) lock() {
	p.kind(Lock, "LOCK TABLE")
	p.accept("table")
	p.tables()
	p.st.Name = "ACCESS EXCLUSIVE"
	if p.accept("in") {
		var words []string
		for p.tok().kind == tokenWord && !p.is("mode") {
			words = append(words, strings.ToUpper(p.next().word))
		}
		p.expect("mode")
		p.st.Name = strings.Join(words, " ")
	}
	p.accept("nowait")
	p.finish()
}

func (p *parser) truncate() {
	p.kind(Truncate, "TRUNCATE TABLE")
	p.accept("table")
	p.tables()
	if p.is("restart") {
		p.unsupported(p.i, "TRUNCATE RESTART IDENTITY is")
	}
	p.accept("continue", "identity")
	if p.is("cascade") {
		p.unsupported(p.i, "TRUNCATE CASCADE is")
	}
	p.accept("restrict")
	p.finish()
	for _, t := range p.st.Tables {
		p.st.SQL = append(p.st.SQL, "DELETE FROM "+quoteIdent(t))
	}
}

func (p *parser) vacuum() {
	p.kind(Vacuum, "VACUUM")
	v := &VacuumStmt{}
	p.st.Vacuum = v
	if p.accept("(") {
		for name, value := range p.options() {
			on := value != "off" && value != "false" && value != "0"
			switch name {
			case "full":
				v.Full = on
			case "analyze", "analyse":
				v.Analyze = on
			}
		}
	}
	for !p.dead() && p.isAny("full", "freeze", "verbose", "analyze", "analyse") {
		switch p.next().word {
		case "full":
			v.Full = true
		case "analyze", "analyse":
			v.Analyze = true
		}
	}
	if p.is("into") {
		p.refuse(p.i, sqlstate.FeatureNotSupported, "VACUUM INTO is not supported")
	}
	p.tablesWithColumns()
}

// tablesWithColumns reads [table [(columns)], …] up to the end.
func (p *parser) tablesWithColumns() {
	for !p.dead() && !p.end() {
		p.drop("only")
		p.st.Tables = append(p.st.Tables, p.dottedName())
		if p.is("(") {
			p.nameList()
		}
		if !p.accept(",") {
			break
		}
	}
	p.finish()
}

// options reads name [value], … up to the closing parenthesis. A name without a value has "".
func (p *parser) options() map[string]string {
	options := map[string]string{}
	for !p.dead() {
		name := p.name()
		value := ""
		if !p.is(",") && !p.is(")") {
			p.accept("=")
			value = asciiLower(p.optionValue())
		}
		options[name] = value
		if !p.accept(",") {
			break
		}
	}
	p.expect(")")
	return options
}

// optionValue reads a word, a name, a string or a number.
func (p *parser) optionValue() string {
	t := p.tok()
	switch {
	case t.name(), t.kind == tokenString, t.kind == tokenNumber:
		p.next()
		return t.word
	case t.is("-") || t.is("+"):
		p.next()
		if n := p.tok(); n.kind == tokenNumber {
			p.next()
			return strings.TrimPrefix(t.word, "+") + n.word
		}
	}
	p.syntaxError()
	return ""
}

func (p *parser) analyze() {
	p.kind(Analyze, "ANALYZE")
	if p.accept("(") {
		p.options()
	}
	p.accept("verbose")
	p.tablesWithColumns()
	if len(p.st.Tables) == 0 {
		p.st.SQL = []string{"ANALYZE"}
	}
	for _, t := range p.st.Tables {
		p.st.SQL = append(p.st.SQL, "ANALYZE "+quoteIdent(t))
	}
}

func (p *parser) reindex() {
	p.kind(Reindex, "REINDEX")
	if p.accept("(") {
		p.options()
	}
	what := ""
	if p.isAny("index", "table", "schema", "database", "system") {
		what = p.next().word
	}
	p.accept("concurrently")
	if p.end() && what == "" {
		p.st.SQL = []string{"REINDEX"}
		return
	}
	name := ""
	if !p.end() {
		name = p.dottedName()
	}
	p.finish()
	if what == "index" || what == "table" || what == "" {
		p.st.Tables = []string{name}
		p.st.SQL = []string{"REINDEX " + quoteIdent(name)}
		return
	}
	p.st.SQL = []string{"REINDEX"}
}

func (p *parser) explain() {
	p.kind(Explain, "EXPLAIN")
	p.next()
	e := &ExplainStmt{Format: "text"}
	p.st.Explain = e
	p.accept("query", "plan")
	if p.is("(") && !p.opensQuery() {
		p.next()
		for name, value := range p.options() {
			switch name {
			case "analyze", "analyse":
				e.Analyze = value != "off" && value != "false" && value != "0"
			case "format":
				e.Format = value
			}
		}
	}
	if p.accept("analyze") || p.accept("analyse") {
		e.Analyze = true
	}
	p.accept("verbose")
	e.Query = p.nested(len(p.toks) - 1)
	if p.dead() || e.Query == nil {
		return
	}
	p.st.SQL = []string{"EXPLAIN QUERY PLAN " + e.Query.SQL[0]}
}

func (p *parser) comment() {
	p.kind(Comment, "COMMENT")
	p.next()
	p.expect("on")
	c := &CommentStmt{}
	start := p.i
	for !p.dead() && !p.is("is") && !p.end() {
		p.next()
	}
	p.objectOfComment(c, start, p.i)
	p.expect("is")
	if p.accept("null") {
		c.Null = true
	} else {
		c.Text = p.stringValue()
	}
	p.st.Comment = c
	p.finish()
}

// objectOfComment splits "TABLE public.t" into its kind and its name.
func (p *parser) objectOfComment(c *CommentStmt, i, j int) {
	var kind, name []string
	for k := i; k < j && !p.dead(); k++ {
		t := &p.toks[k]
		if t.kind == tokenWord && len(name) == 0 && k+1 < j && !p.toks[k+1].is(".") && !p.toks[k+1].is("(") {
			kind = append(kind, strings.ToUpper(t.word))
			continue
		}
		if t.name() && t.word != "public" {
			name = append(name, t.word)
		}
	}
	c.Kind, c.Name = strings.Join(kind, " "), strings.Join(name, ".")
}

func (p *parser) grant(word string) {
	p.kind(Grant, "GRANT")
	if word == "revoke" {
		p.kind(Revoke, "REVOKE")
	}
	p.st.Notice = "privileges are not implemented: every role may do everything that its login allows"
}

// pragma lets SQLite's read-only pragmas through.
func (p *parser) pragma() {
	p.kind(Pragma, "SELECT")
	p.next()
	at := p.i
	name := p.name()
	if p.accept(".") {
		name = p.name()
	}
	if !readOnlyPragmas[name] {
		p.refuse(at, sqlstate.InsufficientPrivilege, "PRAGMA %s is not allowed", name)
		return
	}
	if p.accept("(") {
		if !p.tok().name() && p.tok().kind != tokenString && p.tok().kind != tokenNumber {
			p.syntaxError()
		}
		p.next()
		p.expect(")")
	}
	p.finish()
	p.sql()
}

// transaction reads BEGIN, COMMIT, ROLLBACK, SAVEPOINT and their synonyms.
func (p *parser) transaction(word string) {
	p.next()
	switch word {
	case "begin":
		p.kind(Begin, "BEGIN")
		// SQLite's BEGIN IMMEDIATE and its kin say nothing that matters here.
		if !p.accept("work") && !p.accept("transaction") && !p.accept("deferred") && !p.accept("immediate") {
			p.accept("exclusive")
		}
		p.accept("transaction")
		p.st.Txn = p.modes()
	case "start":
		p.kind(Begin, "START TRANSACTION")
		p.expect("transaction")
		p.st.Txn = p.modes()
	case "commit", "end":
		p.endTransaction(Commit, "COMMIT")
	case "rollback", "abort":
		p.endTransaction(Rollback, "ROLLBACK")
	case "savepoint":
		p.kind(Savepoint, "SAVEPOINT")
		p.savepoint("SAVEPOINT ")
	case "release":
		p.accept("savepoint")
		p.kind(Release, "RELEASE")
		p.savepoint("RELEASE ")
	}
	p.finish()
}

func (p *parser) savepoint(verb string) {
	p.st.Name = p.name()
	p.st.SQL = []string{verb + quoteIdent(p.st.Name)}
}

func (p *parser) endTransaction(k Kind, tag string) {
	p.kind(k, tag)
	if p.is("prepared") {
		p.unsupported(p.i, "two-phase commit is")
	}
	if !p.accept("work") {
		p.accept("transaction")
	}
	if k == Rollback && p.accept("to") {
		p.accept("savepoint")
		p.kind(RollbackTo, "ROLLBACK")
		p.savepoint("ROLLBACK TO ")
		return
	}
	p.st.Txn = &TxnOptions{}
	if p.accept("and") {
		p.st.Txn.Chain = !p.accept("no")
		p.expect("chain")
	}
}

// modes reads transaction modes, with or without commas between.
func (p *parser) modes() *TxnOptions {
	o := &TxnOptions{}
	for !p.dead() && !p.end() {
		switch {
		case p.accept("isolation", "level"):
			o.Isolation = p.isolation()
		case p.accept("read", "only"):
			o.ReadOnly = On
		case p.accept("read", "write"):
			o.ReadOnly = Off
		case p.accept("deferrable"):
			o.Deferrable = On
		case p.accept("not", "deferrable"):
			o.Deferrable = Off
		default:
			p.syntaxError()
		}
		if p.accept(",") && p.end() {
			p.syntaxError()
		}
	}
	return o
}

func (p *parser) isolation() string {
	switch {
	case p.accept("serializable"):
		return "serializable"
	case p.accept("repeatable", "read"):
		return "repeatable read"
	case p.accept("read", "committed"):
		return "read committed"
	case p.accept("read", "uncommitted"):
		return "read uncommitted"
	}
	p.syntaxError()
	return ""
}

// variable reads SET, RESET and SHOW.
func (p *parser) variable(word string) {
	p.next()
	switch word {
	case "show":
		p.kind(Show, "SHOW")
		p.st.Set = &Variable{Name: p.variableName(true)}
		p.finish()
	case "reset":
		p.kind(Reset, "RESET")
		p.st.Set = &Variable{Name: p.variableName(true), Default: true}
		p.finish()
	case "set":
		p.kind(Set, "SET")
		p.set()
	}
}

// variableName reads a setting's name with its special spellings; all says that ALL may stand there.
func (p *parser) variableName(all bool) string {
	switch {
	case all && p.accept("all"):
		return "all"
	case p.accept("time", "zone"):
		return "timezone"
	case p.accept("session", "authorization"):
		return "session_authorization"
	case all && p.accept("transaction", "isolation", "level"):
		return "transaction_isolation"
	}
	name := asciiLower(p.name())
	for p.accept(".") {
		name += "." + asciiLower(p.name())
	}
	return name
}

func (p *parser) set() {
	v := &Variable{}
	switch {
	case p.accept("constraints"):
		p.setConstraints()
		return
	case p.is("transaction", "snapshot"):
		p.unsupported(p.i, "SET TRANSACTION SNAPSHOT is")
		return
	case p.accept("transaction"):
		p.kind(SetTransaction, "SET")
		p.st.Txn = p.modes()
		return
	case p.accept("session", "characteristics", "as", "transaction"):
		p.kind(SetTransaction, "SET")
		p.st.Txn = p.modes()
		p.st.Txn.Session = true
		return
	case p.is("session", "authorization"):
	case p.accept("session"):
	case p.accept("local"):
		v.Local = true
	}
	p.st.Set = v
	p.setValue(v)
	p.finish()
}

// setValue reads name = value and the spellings of SET that have a syntax of their own.
func (p *parser) setValue(v *Variable) {
	switch {
	case p.accept("time", "zone"):
		v.Name = "timezone"
		p.timeZone(v)
		return
	case p.accept("names"):
		v.Name = "client_encoding"
	case p.accept("role"):
		v.Name = "role"
	case p.accept("schema"):
		v.Name = "search_path"
	case p.accept("session", "authorization"):
		v.Name = "session_authorization"
	case p.accept("xml", "option"):
		v.Name = "xmloption"
	default:
		v.Name = p.variableName(false)
		if !p.accept("=") {
			p.expect("to")
		}
		p.values(v)
		return
	}
	if p.end() && v.Name == "client_encoding" {
		v.Default = true
		return
	}
	if !p.accept("=") {
		p.accept("to")
	}
	p.values(v)
}

// timeZone reads what follows SET TIME ZONE: a name, an offset in hours, or an interval, which is
// east of Greenwich as in ISO 8601.
func (p *parser) timeZone(v *Variable) {
	if p.accept("local") {
		v.Default = true
		return
	}
	if p.is("interval") && p.peek(1).kind == tokenString {
		p.next()
		v.Value = p.stringValue()
		v.Values = []string{v.Value}
		p.intervalFields()
		return
	}
	p.values(v)
}

// values reads the value, or list of values, of SET.
func (p *parser) values(v *Variable) {
	if p.accept("default") {
		v.Default = true
		return
	}
	var shown []string
	for !p.dead() {
		t := *p.tok()
		value := p.optionValue()
		v.Values = append(v.Values, value)
		if t.kind == tokenQuoted && asciiLower(value) != value || strings.ContainsAny(value, "$,") && v.Name == "search_path" {
			value = quoteIdent(value)
		}
		shown = append(shown, value)
		if !p.accept(",") {
			break
		}
	}
	if len(shown) == 1 {
		shown = v.Values
	}
	v.Value = strings.Join(shown, ", ")
}

func (p *parser) setConstraints() {
	p.kind(SetConstraints, "SET CONSTRAINTS")
	if !p.accept("all") {
		for !p.dead() {
			p.st.Names = append(p.st.Names, p.dottedName())
			if !p.accept(",") {
				break
			}
		}
	}
	if p.accept("deferred") {
		p.st.Deferred = true
	} else {
		p.expect("immediate")
	}
	p.finish()
}
