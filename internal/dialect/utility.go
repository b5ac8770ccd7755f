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
	case "wait":
		p.wait()
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
	restart := p.accept("restart", "identity")
	p.accept("continue", "identity")
	if p.is("cascade") {
		p.unsupported(p.i, "TRUNCATE CASCADE is")
	}
	p.accept("restrict")
	p.finish()
	for _, t := range p.st.Tables {
		p.st.SQL = append(p.st.SQL, "DELETE FROM "+quoteIdent(t))
		if restart {
			p.st.SQL = append(p.st.SQL, "SELECT restart_identity("+quoteString(t)+")")
		}
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
	if e.Format != "text" {
		p.unsupported(p.i, "EXPLAIN with a format other than text is")
	}
	e.Query = p.nested(len(p.toks) - 1)
	if p.dead() || e.Query == nil {
		return
	}
	p.st.SQL = []string{"EXPLAIN QUERY PLAN " + e.Query.SQL[0]}
}

func (p *parser) comment() {
	p.kind(Comment, "COMMENT")
	p.st.Notice = "comments are not kept"
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
