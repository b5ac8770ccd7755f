package dialect

import (
	"strings"

	"skein/internal/sqlstate"
)

// create reads CREATE.
func (p *parser) create() {
	p.next()
	replace := p.is("or", "replace")
	if replace {
		p.i += 2
	}
	temp := p.temporary()
	switch word := p.next().word; word {
	case "table":
		p.createTable(temp)
	case "index", "unique":
		p.i--
		p.createIndex()
	case "view":
		p.createView(replace, temp)
	case "recursive":
		p.unsupported(p.i-1, "CREATE RECURSIVE VIEW is")
	case "trigger":
		p.createTrigger()
	case "virtual":
		p.kind(DDL, "CREATE TABLE")
		p.expect("table")
		p.accept("if", "not", "exists")
		p.st.Table = p.dottedName()
		p.sql()
	case "database":
		p.database(CreateDatabase, "CREATE DATABASE")
	case "user":
		if p.is("mapping") {
			p.unsupported(p.i, "CREATE USER MAPPING is")
		}
		p.role(CreateRole, "CREATE ROLE", On)
	case "role", "group":
		p.role(CreateRole, "CREATE ROLE", Unset)
	case "schema":
		p.schema()
	case "extension":
		p.extension()
	case "sequence":
		p.fail(sqlstate.New(sqlstate.FeatureNotSupported, "CREATE SEQUENCE is not supported").
			WithHint("Use a serial or identity column.").At(p.position(p.i - 1)))
	case "materialized", "type", "domain", "function", "procedure", "aggregate", "cast", "operator", "rule",
		"policy", "server", "foreign", "publication", "subscription", "statistics", "tablespace", "collation",
		"conversion", "event", "language", "access", "text", "transform", "constraint":
		p.unsupported(p.i-1, "CREATE "+strings.ToUpper(word)+" is")
	default:
		p.i = max(p.i-1, 0)
		p.syntaxError()
	}
}

// temporary reads the words that make a table temporary, and those without meaning here.
func (p *parser) temporary() bool {
	if p.isAny("local", "global") && (p.peek(1).is("temp") || p.peek(1).is("temporary")) {
		p.next()
	}
	p.accept("unlogged")
	return p.accept("temp") || p.accept("temporary")
}

// extension accepts the extensions whose functions are built in or of which nothing is missing, and
// refuses the others.
func (p *parser) extension() {
	p.accept("if", "not", "exists")
	at := p.i
	switch name := p.name(); name {
	case "plpgsql", "uuid-ossp", "pgcrypto":
		p.accepted("CREATE EXTENSION", "extension \""+name+"\" has no effect")
	default:
		p.unsupported(at, "extension \""+name+"\" is")
	}
}

// createIndex reads CREATE [UNIQUE] INDEX.
func (p *parser) createIndex() {
	p.kind(DDL, "CREATE INDEX")
	unique := p.accept("unique")
	p.expect("index")
	p.accept("concurrently")
	p.st.IfExists = p.accept("if", "not", "exists")
	name := ""
	if !p.is("on") {
		name = p.dottedName()
	}
	p.expect("on")
	p.accept("only")
	p.st.Table = p.dottedName()
	p.indexMethod()
	list, columns := p.indexColumns()
	where := p.indexTail()
	if p.dead() {
		return
	}
	if name == "" {
		name = generatedName(p.st.Table, columns, "idx", nil)
		p.st.Index = &IndexStmt{table: p.st.Table, columns: columns}
	}
	p.st.Name = name
	sql := "CREATE "
	if unique {
		sql += "UNIQUE "
	}
	sql += "INDEX "
	if p.st.IfExists {
		sql += "IF NOT EXISTS "
	}
	rest := " ON " + quoteIdent(p.st.Table) + " (" + list + ")" + where
	p.st.SQL = []string{sql + quoteIdent(name) + rest}
	if p.st.Index != nil {
		p.st.Index.head, p.st.Index.tail = sql, rest
	}
}

// Name is the name that PostgreSQL gives the index when the first n that it would rather give are taken.
func (x *IndexStmt) Name(n int) string {
	taken := map[string]bool{}
	for range n {
		taken[generatedName(x.table, x.columns, "idx", taken)] = true
	}
	return generatedName(x.table, x.columns, "idx", taken)
}

// SQL makes the index under a name.
func (x *IndexStmt) SQL(name string) string { return x.head + quoteIdent(name) + x.tail }

func (p *parser) indexMethod() {
	if !p.accept("using") {
		return
	}
	at := p.i
	if method := p.name(); method != "btree" && method != "hash" {
		p.unsupported(at, "access method \""+method+"\" is")
	}
}

// indexColumns reads the columns and expressions of an index, without operator classes. The names are
// those that PostgreSQL builds the index's name from.
func (p *parser) indexColumns() (string, []string) {
	var parts, names []string
	p.expect("(")
	for !p.dead() {
		start := p.i
		e := p.expression()
		if name, strong := columnName(e); strong {
			names = append(names, name)
		} else {
			names = append(names, "expr")
		}
		if p.tok().name() && !p.isAny("asc", "desc", "nulls") {
			p.operatorClass()
			if p.accept("(") {
				p.skipParenthesis()
				p.unsupported(start, "an operator class with options is")
			}
		}
		end := p.i
		if p.accept("asc") || p.accept("desc") {
			end = p.i
		}
		// SQLite knows no place of NULL in an index; it only matters for sorting.
		if p.accept("nulls") && !p.accept("first") {
			p.expect("last")
		}
		if !p.dead() {
			parts = append(parts, strings.TrimSpace(p.text(start, end)))
		}
		if !p.accept(",") {
			break
		}
	}
	p.expect(")")
	p.mustUnderstand()
	return strings.Join(parts, ", "), names
}

// indexTail reads what follows the columns and gives the WHERE clause.
func (p *parser) indexTail() string {
	where := ""
	for !p.dead() && !p.end() {
		switch {
		case p.accept("include", "("):
			p.skipParenthesis()
		case p.is("nulls", "not"):
			p.unsupported(p.i, "NULLS NOT DISTINCT is")
		case p.accept("nulls", "distinct"):
		case p.accept("with", "("):
			p.options()
		case p.accept("tablespace"):
			p.name()
		case p.accept("where"):
			start := p.i
			p.expression()
			p.mustUnderstand()
			where = " WHERE " + strings.TrimSpace(p.text(start, p.i))
		default:
			p.syntaxError()
		}
	}
	return where
}

// createView reads CREATE VIEW; OR REPLACE becomes a DROP before it.
func (p *parser) createView(replace, temp bool) {
	p.kind(DDL, "CREATE VIEW")
	p.st.IfExists = p.accept("if", "not", "exists")
	p.st.Name = p.dottedName()
	columns := ""
	if p.is("(") {
		columns = " (" + quoteList(p.nameList()) + ")"
	}
	if p.accept("with", "(") {
		p.options()
	}
	p.expect("as")
	end := len(p.toks) - 1
	if p.toks[end-1].is("option") {
		p.unsupported(end-1, "WITH CHECK OPTION is")
	}
	q := p.within(end, true)
	if p.dead() {
		return
	}
	if q.Kind != Select {
		p.i = 0
		p.syntaxError()
		return
	}
	if q.NumParams > 0 {
		p.refuse(0, sqlstate.UndefinedParameter, "there is no parameter $1")
		return
	}
	sql := "CREATE "
	if temp {
		sql += "TEMP "
	}
	sql += "VIEW "
	if p.st.IfExists {
		sql += "IF NOT EXISTS "
	}
	if replace {
		p.st.SQL = append(p.st.SQL, "DROP VIEW IF EXISTS "+quoteIdent(p.st.Name))
	}
	p.st.View = &ViewStmt{Head: sql + quoteIdent(p.st.Name) + columns + " AS ", Query: q}
	p.st.SQL = append(p.st.SQL, p.st.View.Head+q.SQL[0])
	p.st.Arithmetic = q.Arithmetic
}

// createTrigger passes SQLite's triggers on; PostgreSQL's call a function, which does not exist here.
func (p *parser) createTrigger() {
	p.kind(DDL, "CREATE TRIGGER")
	p.accept("if", "not", "exists")
	p.st.Name = p.dottedName()
	body := false
	for i := p.i; i < len(p.toks); i++ {
		t := &p.toks[i]
		body = body || t.is("begin")
		if t.is("execute") && !body {
			p.unsupported(i, "a trigger that executes a function is")
			return
		}
		if t.is("on") && !body && p.st.Table == "" && i+1 < len(p.toks) && p.toks[i+1].name() {
			p.i = i + 1
			p.st.Table = p.dottedName()
		}
	}
	p.sql()
}

// dropStatement reads DROP.
func (p *parser) dropStatement() {
	p.next()
	switch word := p.next().word; word {
	case "table", "view", "index", "trigger":
		p.dropObjects(word)
	case "database":
		p.database(DropDatabase, "DROP DATABASE")
	case "role", "user", "group":
		if p.is("mapping") {
			p.unsupported(p.i, "DROP USER MAPPING is")
		}
		p.dropNames(DropRole, "DROP ROLE")
	case "schema":
		p.dropNames(DropSchema, "DROP SCHEMA")
	case "extension":
		p.dropNames(NoOp, "DROP EXTENSION")
	case "sequence", "type", "domain", "function", "procedure", "routine", "aggregate", "materialized", "rule", "policy", "publication",
		"subscription", "operator", "cast", "collation", "server", "foreign", "statistics", "owned", "language", "event":
		p.dropUnknown(word)
	default:
		p.i = max(p.i-1, 0)
		p.syntaxError()
	}
}

// dropUnknown accepts DROP … IF EXISTS of the objects that cannot exist, as migration tools send it.
func (p *parser) dropUnknown(word string) {
	tag := "DROP " + strings.ToUpper(word)
	if word == "materialized" && p.accept("view") {
		tag += " VIEW"
	}
	if !p.accept("if", "exists") {
		p.unsupported(1, tag+" is")
		return
	}
	p.accepted(tag, strings.ToLower(strings.TrimPrefix(tag, "DROP "))+" does not exist, skipping")
}

func (p *parser) dropObjects(word string) {
	p.kind(DDL, "DROP "+strings.ToUpper(word))
	p.accept("concurrently")
	prefix := p.st.Tag + " "
	if p.accept("if", "exists") {
		p.st.IfExists = true
		prefix += "IF EXISTS "
	}
	for !p.dead() {
		start := p.i
		p.st.Names = append(p.st.Names, p.dottedName())
		if p.dead() {
			return
		}
		p.st.SQL = append(p.st.SQL, prefix+strings.TrimSpace(p.text(start, p.i)))
		if !p.accept(",") {
			break
		}
	}
	p.st.Name = p.st.Names[0]
	if word == "trigger" && p.accept("on") {
		p.st.Table = p.dottedName()
	}
	if word == "table" {
		p.st.Table = p.st.Name
	}
	if !p.accept("cascade") {
		p.accept("restrict")
	}
	p.finish()
}
