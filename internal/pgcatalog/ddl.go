package pgcatalog

import (
	"strings"

	"skein/internal/oid"
)

// Constraints have no pragma that gives their names, their deferral or a check's text, so they are
// read from the CREATE TABLE text that SQLite keeps. It has been accepted by SQLite, so the reader
// is forgiving: what it does not know it steps over.

// token is one lexeme of SQLite's SQL.
type token struct {
	text   string // unquoted for identifiers and as written for everything else
	quoted bool   // an identifier in quotes: never a keyword
	word   bool   // an identifier or keyword
	start  int    // position in the source
	end    int
}

// is tells whether the token is a keyword or punctuation, given in upper case.
func (t token) is(s string) bool { return !t.quoted && strings.EqualFold(t.text, s) }

// lex splits SQL text into tokens, dropping comments.
func lex(sql string) []token {
	var out []token
	for i := 0; i < len(sql); {
		start := i
		switch c := sql[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
			i++
			continue
		case strings.HasPrefix(sql[i:], "--"):
			i = skipTo(sql, i, "\n")
			continue
		case strings.HasPrefix(sql[i:], "/*"):
			i = skipTo(sql, i+2, "*/")
			continue
		case c == '"' || c == '`' || c == '[':
			end := c
			if c == '[' {
				end = ']'
			}
			var name string
			name, i = quotedToken(sql, i, end)
			out = append(out, token{name, true, true, start, i})
			continue
		case c == '\'':
			_, i = quotedToken(sql, i, '\'')
		case isWordByte(c):
			for i < len(sql) && (isWordByte(sql[i]) || sql[i] == '.' && isDigit(c)) {
				i++
			}
			out = append(out, token{sql[start:i], false, !isDigit(c), start, i})
			continue
		default:
			i++
		}
		out = append(out, token{sql[start:i], false, false, start, i})
	}
	return out
}

func isWordByte(c byte) bool {
	return isLetter(c) || isDigit(c) || c == '_' || c == '$' || c >= 0x80
}

func skipTo(s string, from int, mark string) int {
	if from > len(s) {
		return len(s)
	}
	if i := strings.Index(s[from:], mark); i >= 0 {
		return from + i + len(mark)
	}
	return len(s)
}

// quotedToken reads from an opening quote; a doubled closing quote stands for itself.
func quotedToken(s string, i int, end byte) (string, int) {
	var b strings.Builder
	for i++; i < len(s); i++ {
		if s[i] == end {
			if i+1 < len(s) && s[i+1] == end && end != ']' {
				i++
			} else {
				return b.String(), i + 1
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), len(s)
}

// constraint is one constraint of a table as it was declared.
type constraint struct {
	name       string
	kind       byte // p, u, f or c as in pg_constraint.contype
	columns    []string
	check      string
	refTable   string
	refColumns []string
	onUpdate   byte // a, r, c, n or d as in pg_constraint.confupdtype
	onDelete   byte
	deferrable bool
	deferred   bool
}

// tableText is what a CREATE TABLE text says beyond what pragmas tell.
type tableText struct {
	types         map[string]string // declared types by column, in lower case
	constraints   []constraint
	autoIncrement string // the column with AUTOINCREMENT
}

// ddlParser walks the tokens of one statement.
type ddlParser struct {
	sql    string
	tokens []token
	i      int
}

func (p *ddlParser) peek() token {
	if p.i < len(p.tokens) {
		return p.tokens[p.i]
	}
	return token{start: len(p.sql), end: len(p.sql)}
}

func (p *ddlParser) next() token {
	t := p.peek()
	if p.i < len(p.tokens) {
		p.i++
	}
	return t
}

func (p *ddlParser) done() bool { return p.i >= len(p.tokens) }

// accept takes the words if they come next.
func (p *ddlParser) accept(words ...string) bool {
	if p.i+len(words) > len(p.tokens) {
		return false
	}
	for j, w := range words {
		if !p.tokens[p.i+j].is(w) {
			return false
		}
	}
	p.i += len(words)
	return true
}

// group takes a parenthesis and gives the text inside it.
func (p *ddlParser) group() string {
	if !p.peek().is("(") {
		return ""
	}
	from, depth := p.next().end, 1
	for !p.done() {
		t := p.next()
		switch {
		case t.is("("):
			depth++
		case t.is(")"):
			if depth--; depth == 0 {
				return strings.TrimSpace(p.sql[from:t.start])
			}
		}
	}
	return ""
}

// columns takes a parenthesised list and gives the first word of each item.
func (p *ddlParser) columns() []string {
	var out []string
	for _, item := range splitList(p.group()) {
		if t := lex(item); len(t) > 0 {
			out = append(out, t[0].text)
		}
	}
	return out
}

// splitList cuts text at the commas outside parentheses.
func splitList(s string) []string {
	var out []string
	depth, from := 0, 0
	for _, t := range lex(s) {
		switch {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		case t.is(",") && depth == 0:
			out = append(out, strings.TrimSpace(s[from:t.start]))
			from = t.end
		}
	}
	if rest := strings.TrimSpace(s[from:]); rest != "" {
		out = append(out, rest)
	}
	return out
}

// parseTable reads the constraints out of a CREATE TABLE text.
func parseTable(sql string) tableText {
	p := &ddlParser{sql: sql, tokens: lex(sql)}
	for !p.done() && !p.peek().is("(") {
		p.next()
	}
	out := tableText{types: map[string]string{}}
	for _, item := range splitList(p.group()) {
		out.item(&ddlParser{sql: item, tokens: lex(item)})
	}
	return out
}

// item reads a column definition or a table constraint.
func (t *tableText) item(p *ddlParser) {
	first := p.peek()
	column := ""
	if first.quoted || !isConstraintWord(first) {
		column = p.next().text
		t.types[strings.ToLower(column)] = p.typeText()
	}
	name := ""
	for !p.done() {
		c := constraint{name: name, onUpdate: 'a', onDelete: 'a'}
		if column != "" {
			c.columns = []string{column}
		}
		named := name
		name = ""
		switch {
		case p.accept("CONSTRAINT"):
			name = p.next().text
			continue
		case p.accept("PRIMARY", "KEY"):
			c.kind = 'p'
			if column == "" {
				c.columns = p.columns()
			}
		case p.accept("UNIQUE"):
			c.kind = 'u'
			if column == "" {
				c.columns = p.columns()
			}
		case p.accept("CHECK"):
			c.kind, c.check = 'c', p.group()
		case p.accept("FOREIGN", "KEY"):
			c.columns = p.columns()
			p.accept("REFERENCES")
			p.references(&c)
		case p.accept("REFERENCES"):
			p.references(&c)
		case p.accept("AUTOINCREMENT"):
			t.autoIncrement = column
		case p.accept("DEFAULT"), p.accept("AS"):
			if p.peek().is("(") {
				p.group()
			} else {
				p.next()
			}
		case p.peek().is("("):
			p.group()
		default:
			p.next()
			name = named
		}
		if c.kind != 0 {
			t.constraints = append(t.constraints, c)
		}
	}
}

// typeText takes a column's declared type as it is written.
func (p *ddlParser) typeText() string {
	from := p.peek().start
	end := from
	for !p.done() && !isColumnWord(p.peek()) {
		if p.peek().is("(") {
			p.group()
		} else {
			p.next()
		}
		end = p.tokens[p.i-1].end
	}
	return p.sql[from:end]
}

// isColumnWord tells whether a column's type is over.
func isColumnWord(t token) bool {
	for _, w := range []string{"NOT", "NULL", "DEFAULT", "COLLATE", "REFERENCES", "GENERATED", "AS"} {
		if t.is(w) {
			return true
		}
	}
	return isConstraintWord(t)
}

// ColumnType reads a column's type and modifier from a CREATE TABLE text; 0 and -1 when it is not
// there. SQLite's own decltype will not do for integer and bigint keys: it keeps no case of the
// word INTEGER, which is what tells them apart.
func ColumnType(createSQL, column string) (oid.OID, int32) {
	return oid.Declared(parseTable(createSQL).types[strings.ToLower(column)])
}

func isConstraintWord(t token) bool {
	for _, w := range []string{"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"} {
		if t.is(w) {
			return true
		}
	}
	return false
}

// references reads what follows REFERENCES.
func (p *ddlParser) references(c *constraint) {
	c.kind = 'f'
	c.refTable = p.next().text
	if p.accept(".") {
		c.refTable = p.next().text
	}
	c.refColumns = p.columns()
	for !p.done() {
		switch {
		case p.accept("ON", "DELETE"):
			c.onDelete = p.action()
		case p.accept("ON", "UPDATE"):
			c.onUpdate = p.action()
		case p.accept("MATCH"):
			p.next()
		case p.accept("NOT", "DEFERRABLE"):
		case p.accept("DEFERRABLE"):
			c.deferrable = true
		case p.accept("INITIALLY", "DEFERRED"):
			c.deferred = true
		case p.accept("INITIALLY", "IMMEDIATE"):
		default:
			return
		}
	}
}

func (p *ddlParser) action() byte {
	switch {
	case p.accept("CASCADE"):
		return 'c'
	case p.accept("RESTRICT"):
		return 'r'
	case p.accept("SET", "NULL"):
		return 'n'
	case p.accept("SET", "DEFAULT"):
		return 'd'
	}
	p.accept("NO", "ACTION")
	return 'a'
}

// indexItem is one key of an index: a column, or an expression.
type indexItem struct {
	column string
	expr   string
	desc   bool
}

// parseIndex reads the keys and the predicate of a CREATE INDEX text.
func parseIndex(sql string) (items []indexItem, where string) {
	p := &ddlParser{sql: sql, tokens: lex(sql)}
	for !p.done() && !p.peek().is("(") {
		p.next()
	}
	for _, text := range splitList(p.group()) {
		items = append(items, parseIndexItem(text))
	}
	if p.accept("WHERE") {
		where = strings.TrimSpace(sql[p.peek().start:])
	}
	return items, where
}

func parseIndexItem(text string) indexItem {
	tokens := lex(text)
	item := indexItem{}
	n := len(tokens)
	if n > 0 && (tokens[n-1].is("ASC") || tokens[n-1].is("DESC")) {
		item.desc = tokens[n-1].is("DESC")
		n--
	}
	if n > 2 && tokens[n-2].is("COLLATE") {
		n -= 2
	}
	switch {
	case n == 1 && tokens[0].word:
		item.column = tokens[0].text
	case n > 0:
		item.expr = strings.TrimSpace(text[:tokens[n-1].end])
	}
	return item
}

// keywordFunctions are the functions that PostgreSQL spells as keywords.
var keywordFunctions = map[string]string{
	"current_date_": "CURRENT_DATE", "current_time_": "CURRENT_TIME", "localtimestamp": "LOCALTIMESTAMP",
	"localtime_": "LOCALTIME", "current_user_": "CURRENT_USER", "current_timestamp_": "CURRENT_TIMESTAMP",
}

// spell turns an expression kept in SQLite's dialect back into PostgreSQL's: cast_int4(x) is
// x::integer, and functions get their keywords back.
func spell(expr string) string {
	p := &ddlParser{sql: expr, tokens: lex(expr)}
	var b strings.Builder
	last := 0
	for !p.done() {
		t := p.next()
		if !t.word || t.quoted || !p.peek().is("(") {
			continue
		}
		lower := strings.ToLower(t.text)
		if keyword := keywordFunctions[lower]; keyword != "" {
			b.WriteString(expr[last:t.start] + keyword)
			p.group()
			last = p.tokens[p.i-1].end
			continue
		}
		typ, isCast := strings.CutPrefix(lower, "cast_")
		if !isCast {
			continue
		}
		arguments := splitList(p.group())
		if len(arguments) == 0 {
			continue
		}
		b.WriteString(expr[last:t.start] + castSpelling(spell(arguments[0]), typ, arguments[1:]))
		last = p.tokens[p.i-1].end
	}
	return b.String() + expr[last:]
}

func castSpelling(value, typ string, modifiers []string) string {
	name := typ
	if t := typeByName(typ); t != nil {
		name = typeSpelling(t.oid, -1)
	}
	if len(modifiers) > 0 {
		name += "(" + strings.Join(modifiers, ",") + ")"
	}
	if len(lex(value)) > 1 && !strings.HasPrefix(value, "'") {
		value = "(" + value + ")"
	}
	return value + "::" + name
}
