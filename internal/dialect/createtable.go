package dialect

import (
	"strings"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// createTable reads CREATE TABLE; p stands after the word TABLE.
func (p *parser) createTable(temp bool) {
	p.kind(DDL, "CREATE TABLE")
	t := &Table{Temp: temp}
	t.IfNotExists = p.accept("if", "not", "exists")
	p.st.IfExists = t.IfNotExists
	if p.is("pg_temp", ".") || p.is("temp", ".") {
		t.Temp = true
	}
	t.Name = p.dottedName()
	p.st.Table = t.Name
	if p.is("on", "commit") {
		p.unsupported(p.i, "ON COMMIT is")
	}
	if p.is("as") || p.is("(") && p.closesBefore("as") || p.is("with") {
		p.createTableAs(t)
		return
	}
	if p.is("partition") || p.is("of") {
		p.unsupported(p.i, "CREATE TABLE "+strings.ToUpper(p.tok().word)+" is")
	}
	if p.isStrict() {
		p.strictTable()
		return
	}
	p.expect("(")
	p.tableElements(t, false)
	p.tableOptions(t)
	p.finish()
	p.mustUnderstand()
	if p.dead() {
		return
	}
	if err := t.check(); err != nil {
		p.fail(err)
		return
	}
	if err := t.settle(); err != nil {
		p.fail(err)
		return
	}
	p.st.SQL = []string{t.String()}
}

// check refuses what PostgreSQL would about the columns.
func (t *Table) check() *sqlstate.Error {
	seen := map[string]bool{}
	for _, c := range t.Columns {
		name := asciiLower(c.Name)
		if seen[name] {
			return sqlstate.New(sqlstate.DuplicateColumn, "column \"%s\" specified more than once", c.Name)
		}
		seen[name] = true
	}
	keys := 0
	t.eachConstraint(func(k *Constraint) {
		if k.Kind == PrimaryKey {
			keys++
		}
	})
	if keys > 1 {
		return sqlstate.New(sqlstate.InvalidTableDefinition, "multiple primary keys for table \"%s\" are not allowed", t.Name)
	}
	if len(t.Columns) == 0 {
		return sqlstate.New(sqlstate.FeatureNotSupported, "a table without columns is not supported")
	}
	return nil
}

// closesBefore says whether the parenthesis here is followed by the word.
func (p *parser) closesBefore(word string) bool {
	i := p.closing(p.i)
	return p.toks[min(i+1, len(p.toks)-1)].is(word)
}

// closing is the place of the parenthesis that closes the one at i.
func (p *parser) closing(i int) int {
	depth := 0
	for ; i < len(p.toks)-1; i++ {
		switch t := &p.toks[i]; {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
			if depth == 0 {
				return i
			}
		}
	}
	return i
}

// isStrict says whether the table is one of SQLite's STRICT tables, which have SQLite's types.
func (p *parser) isStrict() bool {
	for i := p.closing(p.i) + 1; i < len(p.toks); i++ {
		if p.toks[i].is("strict") {
			return true
		}
	}
	return false
}

func (p *parser) strictTable() {
	p.i = len(p.toks) - 1
	p.sql()
}

// createTableAs reads CREATE TABLE … AS; the engine makes the table when it knows the types.
func (p *parser) createTableAs(t *Table) {
	p.kind(CreateTableAs, "SELECT")
	p.st.Writing = "CREATE TABLE AS"
	s := &CreateAsStmt{Table: t.Name, Temp: t.Temp, IfNotExists: t.IfNotExists}
	if p.is("(") {
		s.Columns = p.nameList()
		p.mustUnderstand()
	}
	if p.accept("with", "(") {
		p.options()
	}
	p.expect("as")
	end := len(p.toks) - 1
	for _, tail := range [][]string{{"with", "no", "data"}, {"with", "data"}} {
		if k := end - len(tail); k > p.i && p.matches(k, tail) {
			s.NoData = len(tail) == 3
			end = k
			break
		}
	}
	if p.is("execute") || p.isAny("insert", "update", "delete") {
		p.unsupported(p.i, "CREATE TABLE AS "+strings.ToUpper(p.tok().word)+" is")
	}
	s.Query = p.nested(end)
	p.st.CreateAs = s
}

func (p *parser) matches(at int, words []string) bool {
	for n, w := range words {
		if !p.toks[at+n].is(w) {
			return false
		}
	}
	return true
}

// tableElements reads columns and constraints up to the closing parenthesis. stored says that the
// text is SQLite's own, as it stands in sqlite_schema: types and expressions are taken as they are.
func (p *parser) tableElements(t *Table, stored bool) {
	for !p.dead() {
		switch {
		case p.isAny("constraint", "primary", "unique", "check", "foreign", "exclude"):
			t.Constraints = append(t.Constraints, p.tableConstraint(stored))
		case p.is("like") && !stored:
			p.unsupported(p.i, "CREATE TABLE LIKE is")
		case p.is(")") && len(t.Columns) == 0:
		default:
			t.Columns = append(t.Columns, p.columnDefinition(stored))
		}
		// SQLite lets the commas between constraints go.
		if !p.accept(",") && !(stored && p.isAny("constraint", "primary", "unique", "check", "foreign")) {
			break
		}
	}
	p.expect(")")
}

func (p *parser) columnDefinition(stored bool) *Column {
	c := &Column{Name: p.name()}
	if stored {
		c.Declared = p.storedType()
	} else if !p.columnConstraintNext() {
		p.columnType(c)
	}
	for !p.dead() && !p.is(",") && !p.is(")") && !p.end() {
		p.columnConstraint(c, stored)
	}
	return c
}

// columnConstraintNext says whether a column has no type, as SQLite allows.
func (p *parser) columnConstraintNext() bool {
	return p.is(",") || p.is(")") || p.isAny("constraint", "primary", "not", "null", "unique", "check", "default",
		"collate", "references", "generated", "as")
}

func (p *parser) columnType(c *Column) {
	at := p.i
	switch word := p.tok().word; word {
	case "serial", "serial4", "serial8", "bigserial", "serial2", "smallserial":
		c.Serial = true
	}
	c.typ = p.typeNameAt()
	if c.typ.typ == nil {
		return
	}
	switch o := c.typ.typ.OID; o {
	case oid.Unknown, oid.Record, oid.Void, oid.PgNodeTree, oid.AclitemArray:
		p.refuse(at, sqlstate.InvalidTableDefinition, "column \"%s\" has pseudo-type %s", c.Name, c.typ.typ.Name)
	case oid.Numeric:
		p.checkNumeric(at, c.typ.args)
	}
	if c.Serial {
		c.Constraints = append(c.Constraints, Constraint{Kind: NotNull, Text: "NOT NULL"})
	}
}

func (p *parser) checkNumeric(at int, args []string) {
	if len(args) == 0 {
		return
	}
	if len(args[0]) > 4 || args[0] == "0" || args[0][0] == '-' {
		p.refuse(at, sqlstate.InvalidParameterValue, "NUMERIC precision %s must be between 1 and 1000", args[0])
	}
	if len(args) > 1 && (len(args[1]) > 4 || args[1][0] == '-') {
		p.refuse(at, sqlstate.FeatureNotSupported, "NUMERIC scale %s is not supported", args[1])
	}
}

// storedType takes a column's declared type as it stands.
func (p *parser) storedType() string {
	start := p.i
	for !p.end() && !p.columnConstraintNext() {
		if p.accept("(") {
			p.skipParenthesis()
			continue
		}
		p.next()
	}
	if start == p.i {
		return ""
	}
	return p.src[p.toks[start].pos:p.toks[p.i-1].end]
}

// columnConstraint reads one constraint of a column.
func (p *parser) columnConstraint(c *Column, stored bool) {
	k := Constraint{Columns: []string{c.Name}}
	if p.accept("constraint") {
		k.Name = p.name()
	}
	start := p.i
	switch {
	case p.accept("not", "null"):
		k.Kind, k.Text = NotNull, "NOT NULL"
		if c.find(NotNull) != nil {
			return
		}
	case p.accept("null"):
		return
	case p.accept("primary", "key"):
		k.Kind, k.Text = PrimaryKey, "PRIMARY KEY"
		p.keyDirection(&k)
	case p.accept("unique"):
		k.Kind, k.Text = Unique, "UNIQUE"
	case p.is("check"):
		p.checkConstraint(&k, stored)
	case p.accept("default"):
		p.defaultValue(c, &k, stored)
	case p.accept("collate"):
		p.columnCollation(&k, start)
		if k.Text == "" {
			return
		}
	case p.is("references"):
		p.references(&k)
	case p.is("generated"), p.is("as"):
		if p.generated(c, &k, stored) {
			return
		}
	case p.accept("autoincrement"):
		c.Serial = true
		return
	case p.accept("storage"), p.accept("compression"):
		p.next()
		return
	default:
		p.syntaxError()
		return
	}
	p.keyOptions(&k, stored)
	c.Constraints = append(c.Constraints, k)
}

func (p *parser) columnCollation(k *Constraint, start int) {
	k.Kind = Collate
	p.collation(start)
	if text := strings.TrimSpace(p.text(start, p.i)); text != "" {
		k.Text = text
	}
}

func (p *parser) keyDirection(k *Constraint) {
	if p.accept("desc") {
		k.Text += " DESC"
	} else {
		p.accept("asc")
	}
}

func (p *parser) checkConstraint(k *Constraint, stored bool) {
	start := p.i
	p.expect("check")
	if !p.is("(") {
		p.syntaxError()
		return
	}
	if stored {
		p.next()
		p.skipParenthesis()
	} else {
		p.next()
		e := p.expression()
		p.expect(")")
		if len(k.Columns) == 0 {
			k.Columns = columnsOf(e)
		}
	}
	k.Kind, k.Text = Check, p.text(start, p.i)
	p.accept("no", "inherit")
}

// columnsOf lists the columns of an expression, as PostgreSQL does to name a check: one column gives
// its name, several give none.
func columnsOf(e *expr) []string {
	var names []string
	e.walk(func(x *expr) {
		if x.kind == exprColumn && (len(names) == 0 || names[0] != x.name) {
			names = append(names, x.name)
		}
	})
	if len(names) > 1 {
		return nil
	}
	return names
}

// defaultValue reads DEFAULT. SQLite wants parentheses around anything but a literal; a string for
// a column that is not text is converted, as PostgreSQL does.
func (p *parser) defaultValue(c *Column, k *Constraint, stored bool) {
	k.Kind = Default
	start := p.i
	if stored {
		p.storedDefault()
		k.Text = "DEFAULT " + p.text(start, p.i)
		return
	}
	e := p.level(levelOther)
	text := p.text(start, p.i)
	k.Text = "DEFAULT " + defaultText(e, c.typ, text)
}

func (p *parser) storedDefault() {
	if p.accept("(") {
		p.skipParenthesis()
		return
	}
	if !p.accept("-") {
		p.accept("+")
	}
	p.next()
}

func defaultText(e *expr, t *typeName, text string) string {
	bare := e.bare()
	convert := t != nil && t.typ != nil && (bare.kind == exprString && !isText(t.typ.OID) || bare.kind == exprNumber && t.typ.OID == oid.Numeric)
	if t != nil && t.typ != nil {
		from := e.staticType()
		convert = convert || isTemporal(t.typ.OID) && isTemporal(from) && from != t.typ.OID
	}
	switch {
	case convert:
		return "(" + t.castName() + "(" + text + t.castArgs() + "))"
	case bare.kind == exprNumber || bare.kind == exprString || bare.kind == exprNull || bare.kind == exprBool:
		if e.kind != exprParen {
			return text
		}
	}
	return "(" + text + ")"
}

func isText(o oid.OID) bool {
	switch o {
	case oid.Text, oid.Varchar, oid.Bpchar, oid.Name, oid.Unknown, oid.Char:
		return true
	}
	return false
}

// generated reads an identity, which it says, or a computed column.
func (p *parser) generated(c *Column, k *Constraint, stored bool) bool {
	start := p.i
	if p.accept("generated") {
		if p.accept("by", "default") {
		} else {
			p.expect("always")
		}
	}
	p.expect("as")
	if p.accept("identity") {
		c.Serial = true
		if c.typ != nil && c.typ.typ != nil && !isInteger(c.typ.typ.OID) {
			p.refuse(start, sqlstate.InvalidParameterValue, "identity column type must be smallint, integer, or bigint")
		}
		if p.accept("(") {
			p.skipParenthesis()
		}
		if c.find(NotNull) == nil {
			c.Constraints = append(c.Constraints, Constraint{Kind: NotNull, Text: "NOT NULL"})
		}
		return true
	}
	p.expect("(")
	if stored {
		p.skipParenthesis()
	} else {
		p.expression()
		p.expect(")")
	}
	if !p.accept("stored") {
		p.accept("virtual")
	}
	k.Kind, k.Text = Generated, p.text(start, p.i)
	return false
}

// references reads REFERENCES table (columns) and its actions.
func (p *parser) references(k *Constraint) {
	start := p.i
	p.expect("references")
	k.Kind, k.RefName = ForeignKey, p.dottedName()
	if p.is("(") {
		p.nameList()
	}
	for !p.dead() {
		switch {
		case p.is("match", "full"), p.is("match", "partial"):
			p.unsupported(p.i, "MATCH "+strings.ToUpper(p.peek(1).word)+" is")
		case p.drop("match", "simple"):
		case p.accept("on", "delete"), p.accept("on", "update"):
			p.foreignAction()
		case p.accept("not", "deferrable"), p.accept("deferrable"), p.accept("initially", "deferred"), p.accept("initially", "immediate"):
		case p.drop("not", "valid"):
		default:
			k.Text = p.text(start, p.i)
			return
		}
	}
}

func (p *parser) foreignAction() {
	switch {
	case p.accept("cascade"), p.accept("restrict"), p.accept("no", "action"):
	case p.accept("set", "null"), p.accept("set", "default"):
		if p.is("(") {
			p.unsupported(p.i, "ON DELETE SET with columns is")
		}
	default:
		p.syntaxError()
	}
}

// keyOptions reads what may follow a key: storage, which is dropped, and SQLite's ON CONFLICT.
func (p *parser) keyOptions(k *Constraint, stored bool) {
	for !p.dead() {
		switch {
		case p.accept("with", "("):
			p.options()
		case p.accept("using", "index", "tablespace"):
			p.name()
		case p.is("nulls", "not", "distinct"):
			p.unsupported(p.i, "NULLS NOT DISTINCT is")
		case p.accept("nulls", "distinct"):
		case p.accept("include", "("):
			p.skipParenthesis()
		case p.is("on", "conflict"):
			start := p.i
			p.i += 3
			k.Text += " " + p.text(start, p.i)
		case k.Kind != ForeignKey && (p.is("deferrable") || p.is("initially", "deferred")):
			p.unsupported(p.i, "a deferrable constraint other than a foreign key is")
		case k.Kind != ForeignKey && (p.accept("not", "deferrable") || p.accept("initially", "immediate")):
		case p.accept("not", "valid"):
		default:
			return
		}
	}
}

// tableConstraint reads a constraint that stands by itself.
func (p *parser) tableConstraint(stored bool) Constraint {
	k := Constraint{}
	if p.accept("constraint") {
		k.Name = p.name()
	}
	switch {
	case p.accept("primary", "key"):
		k.Kind, k.Text = PrimaryKey, "PRIMARY KEY"
		p.keyColumns(&k)
	case p.accept("unique"):
		k.Kind, k.Text = Unique, "UNIQUE"
		if p.is("nulls", "not") {
			p.unsupported(p.i, "NULLS NOT DISTINCT is")
		}
		p.accept("nulls", "distinct")
		p.keyColumns(&k)
	case p.is("check"):
		p.checkConstraint(&k, stored)
	case p.accept("foreign", "key"):
		p.keyColumns(&k)
		p.references(&k)
	case p.is("exclude"):
		p.unsupported(p.i, "EXCLUDE is")
	default:
		p.syntaxError()
	}
	p.keyOptions(&k, stored)
	return k
}

// keyColumns reads the columns of a key, each perhaps with SQLite's COLLATE and direction.
func (p *parser) keyColumns(k *Constraint) {
	if p.is("using") {
		p.unsupported(p.i, "a constraint USING INDEX is")
	}
	p.expect("(")
	for !p.dead() {
		k.Columns = append(k.Columns, p.name())
		if p.accept("collate") {
			p.name()
		}
		if !p.accept("asc") {
			p.accept("desc")
		}
		p.accept("autoincrement")
		if !p.accept(",") {
			break
		}
	}
	p.expect(")")
}

// tableOptions reads what follows the columns.
func (p *parser) tableOptions(t *Table) {
	for !p.dead() && !p.end() {
		switch {
		case p.is("inherits"), p.is("partition"):
			p.unsupported(p.i, strings.ToUpper(p.tok().word)+" is")
		case p.accept("with", "("):
			p.options()
		case p.accept("without", "oids"):
		case p.accept("without", "rowid"):
			t.addOption("WITHOUT ROWID")
		case p.accept("strict"):
			t.addOption("STRICT")
		case p.accept("on", "commit", "preserve", "rows"):
		case p.is("on", "commit"):
			p.unsupported(p.i, "ON COMMIT is")
		case p.accept("tablespace"), p.accept("using"):
			p.name()
		case p.accept(","):
		default:
			p.syntaxError()
		}
	}
}

func (t *Table) addOption(option string) {
	if t.Options != "" {
		t.Options += ", "
	}
	t.Options += option
}

// ParseTable reads a CREATE TABLE text as SQLite keeps it in sqlite_schema.
func ParseTable(createSQL string) (*Table, error) {
	toks, err := tokenize(createSQL)
	if err != nil {
		return nil, err
	}
	p := &parser{src: createSQL, toks: toks, st: &Statement{}}
	t := &Table{}
	p.expect("create")
	if p.accept("temp") || p.accept("temporary") {
		t.Temp = true
	}
	p.expect("table")
	p.accept("if", "not", "exists")
	t.Name = p.dottedName()
	p.expect("(")
	p.tableElements(t, true)
	p.tableOptions(t)
	if p.err != nil {
		return nil, p.err
	}
	return t, nil
}
