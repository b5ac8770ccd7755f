package vault

import (
	"errors"
	"slices"
	"strings"
)

var errNoTable = errors.New("not a CREATE TABLE statement that is understood")

// parseTable reads what matters of a CREATE TABLE statement as sqlite_schema has it: the columns, which of them a record has and
// in which order, and the key.
func parseTable(sql string) (*Table, error) {
	p := &tableParser{tokens: tokens(sql)}
	for _, word := range []string{"CREATE", "TEMP", "TEMPORARY", "VIRTUAL", "TABLE", "IF", "NOT", "EXISTS"} {
		p.word(word)
	}
	if p.next().text == "" {
		return nil, errNoTable
	}
	if p.mark(".") {
		p.next()
	}
	if !p.mark("(") {
		return nil, errNoTable
	}
	t := &Table{rowid: -1}
	var virtual []bool
	inline := -1 // the column that is declared to be the primary key
	descending := false
	for {
		item := p.item()
		if len(item) == 0 {
			return nil, errNoTable
		}
		switch first := item[0].upper(); {
		case first == "CONSTRAINT" || first == "PRIMARY" || first == "UNIQUE" || first == "CHECK" || first == "FOREIGN":
			if err := t.constraint(item); err != nil {
				return nil, err
			}
		default:
			c := column(item)
			if c.key {
				inline, descending = len(t.Columns), c.descending
			}
			t.Columns, virtual = append(t.Columns, c.Column), append(virtual, c.virtual)
		}
		if !p.mark(",") {
			break
		}
	}
	if !p.mark(")") {
		return nil, errNoTable
	}
	for i := p.at; i+1 < len(p.tokens); i++ {
		t.WithoutRowid = t.WithoutRowid || p.tokens[i].upper() == "WITHOUT" && p.tokens[i+1].upper() == "ROWID"
	}
	if inline >= 0 {
		t.key = []int{inline}
	}
	// "INTEGER PRIMARY KEY DESC" on the column itself is no rowid, by an old mistake that SQLite keeps.
	if !t.WithoutRowid && len(t.key) == 1 && strings.EqualFold(t.Columns[t.key[0]].Type, "integer") && !descending {
		t.rowid = t.key[0]
	}
	t.store(virtual)
	return t, nil
}

// store says in which order a record has the columns. Computed ones that are not stored are not there.
func (t *Table) store(virtual []bool) {
	if t.WithoutRowid {
		t.kept = slices.Clone(t.key)
	}
	for i := range t.Columns {
		if !virtual[i] && (!t.WithoutRowid || !slices.Contains(t.key, i)) {
			t.kept = append(t.kept, i)
		}
	}
}

// constraint takes in a constraint of the table, if it is the primary key.
func (t *Table) constraint(item []token) error {
	if item[0].upper() == "CONSTRAINT" && len(item) > 2 {
		item = item[2:]
	}
	if len(item) < 3 || item[0].upper() != "PRIMARY" {
		return nil
	}
	p := tableParser{tokens: item, at: 2}
	if !p.mark("(") {
		return errNoTable
	}
	for {
		list := p.item()
		if len(list) == 0 {
			return errNoTable
		}
		i := slices.IndexFunc(t.Columns, func(c Column) bool { return strings.EqualFold(c.Name, list[0].text) })
		if i < 0 {
			return errNoTable
		}
		if !slices.Contains(t.key, i) {
			t.key = append(t.key, i)
		}
		if !p.mark(",") {
			return nil
		}
	}
}

type columnDefinition struct {
	Column
	key, descending, virtual bool
}

// column reads the definition of a column.
func column(item []token) columnDefinition {
	c := columnDefinition{Column: Column{Name: item[0].text}}
	at := 1
	var kind strings.Builder
	for ; at < len(item) && !beginsConstraint(item[at]); at++ {
		if kind.Len() > 0 && item[at].text != "(" && item[at].text != ")" && item[at].text != "," && item[at-1].text != "(" && item[at-1].text != "," {
			kind.WriteByte(' ')
		}
		kind.WriteString(item[at].text)
	}
	c.Type = kind.String()
	depth := 0
	for ; at < len(item); at++ {
		switch t := item[at]; {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		case depth > 0:
		case t.upper() == "CONSTRAINT":
			at++ // its name
		case t.upper() == "PRIMARY":
			c.key = true
			c.descending = at+2 < len(item) && item[at+2].upper() == "DESC"
		case t.upper() == "AS":
			c.Generated, c.virtual = true, true
		case t.upper() == "STORED" && c.Generated:
			c.virtual = false
		}
	}
	return c
}

func beginsConstraint(t token) bool {
	switch t.upper() {
	case "CONSTRAINT", "PRIMARY", "NOT", "NULL", "UNIQUE", "CHECK", "DEFAULT", "COLLATE", "REFERENCES", "GENERATED", "AS":
		return true
	}
	return false
}

// tableParser goes through the tokens of a statement.
type tableParser struct {
	tokens []token
	at     int
}

func (p *tableParser) next() token {
	if p.at == len(p.tokens) {
		return token{}
	}
	p.at++
	return p.tokens[p.at-1]
}

// word passes a keyword, if it comes next.
func (p *tableParser) word(w string) {
	if p.at < len(p.tokens) && p.tokens[p.at].upper() == w {
		p.at++
	}
}

// mark passes a character, and says whether it came next.
func (p *tableParser) mark(m string) bool {
	if p.at < len(p.tokens) && p.tokens[p.at].is(m) {
		p.at++
		return true
	}
	return false
}

// item gives the tokens up to the next comma, or closing parenthesis, that is not within another pair.
func (p *tableParser) item() []token {
	depth, from := 0, p.at
	for ; p.at < len(p.tokens); p.at++ {
		switch t := p.tokens[p.at]; {
		case t.is("("):
			depth++
		case t.is(")") && depth == 0, t.is(",") && depth == 0:
			return p.tokens[from:p.at]
		case t.is(")"):
			depth--
		}
	}
	return p.tokens[from:p.at]
}

// token of SQL. Of a name or text in quotes it has the content.
type token struct {
	text   string
	quoted bool
}

// is says whether it is this character.
func (t token) is(mark string) bool { return !t.quoted && t.text == mark }

// upper is the word that it may be a keyword of.
func (t token) upper() string {
	if t.quoted {
		return ""
	}
	return strings.ToUpper(t.text)
}

// tokens takes SQL apart. Comments and spaces go.
func tokens(sql string) (list []token) {
	for len(sql) > 0 {
		switch c := sql[0]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
			sql = sql[1:]
		case strings.HasPrefix(sql, "--"):
			sql = after(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			sql = after(sql[2:], "*/")
		case c == '"' || c == '`' || c == '\'' || c == '[':
			var t token
			t, sql = quoted(sql)
			list = append(list, t)
		case inWord(c):
			n := 1
			for n < len(sql) && inWord(sql[n]) {
				n++
			}
			list, sql = append(list, token{text: sql[:n]}), sql[n:]
		default:
			list, sql = append(list, token{text: sql[:1]}), sql[1:]
		}
	}
	return list
}

func inWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '$' || c >= 0x80
}

// after gives what follows an end, nothing if there is none.
func after(sql, end string) string {
	_, rest, _ := strings.Cut(sql, end)
	return rest
}

// quoted reads a name or text in quotes.
func quoted(sql string) (t token, rest string) {
	end := sql[0]
	if end == '[' {
		end = ']'
	}
	var b strings.Builder
	for i := 1; i < len(sql); i++ {
		switch {
		case sql[i] != end:
			b.WriteByte(sql[i])
		case end != ']' && i+1 < len(sql) && sql[i+1] == end:
			b.WriteByte(end)
			i++
		default:
			return token{b.String(), true}, sql[i+1:]
		}
	}
	return token{b.String(), true}, ""
}
