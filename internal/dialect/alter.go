package dialect

import (
	"strings"

	"skein/internal/sqlstate"
)

// alter reads ALTER.
func (p *parser) alter() {
	p.next()
	switch word := p.next().word; word {
	case "table":
		p.alterTable()
	case "database":
		p.database(AlterDatabase, "ALTER DATABASE")
	case "role", "user", "group":
		p.role(AlterRole, "ALTER ROLE", Unset)
	case "system":
		p.kind(AlterSystem, "ALTER SYSTEM")
		p.alterSetting()
	case "view":
		p.alterView()
	case "index":
		p.alterIndex()
	case "sequence", "schema", "type", "domain", "function", "procedure", "aggregate", "extension",
		"default", "materialized", "operator", "publication", "subscription", "policy", "trigger", "collation", "language",
		"large", "server", "foreign", "statistics", "tablespace", "text", "rule", "event", "routine":
		p.alterOther(word)
	default:
		p.i = max(p.i-1, 0)
		p.syntaxError()
	}
}

// alterIndex renames one.
func (p *parser) alterIndex() {
	at := p.i
	ifExists := p.accept("if", "exists")
	name := p.dottedName()
	if !p.accept("rename", "to") {
		p.i = at
		p.alterOther("index")
		return
	}
	p.kind(RenameIndex, "ALTER INDEX")
	p.st.IfExists, p.st.Names = ifExists, []string{name, p.name()}
	p.finish()
}

// alterOther accepts a change of owner, which has no meaning here, and refuses all else.
func (p *parser) alterOther(word string) {
	for i := p.i; i < len(p.toks); i++ {
		if p.toks[i].is("owner") && p.toks[i+1].is("to") {
			p.accepted("ALTER "+strings.ToUpper(word), "owners are not implemented")
			return
		}
	}
	p.unsupported(1, "ALTER "+strings.ToUpper(word)+" is")
}

// alterView lets a view be renamed by dropping it; SQLite cannot, so only its owner can change.
func (p *parser) alterView() { p.alterOther("view") }

// alterTable reads ALTER TABLE. What SQLite can do goes to it; one change that it cannot makes the
// whole statement a rebuild.
func (p *parser) alterTable() {
	p.kind(DDL, "ALTER TABLE")
	edit := &TableEdit{IfExists: p.accept("if", "exists")}
	p.st.IfExists = edit.IfExists
	p.accept("only")
	edit.Table = p.dottedName()
	p.accept("*")
	p.st.Table = edit.Table
	if p.is("rename") && p.renameAny(edit) {
		return
	}
	native := !edit.IfExists
	for !p.dead() {
		sql := p.alterAction(edit)
		if sql == "" {
			native = false
		}
		p.st.SQL = append(p.st.SQL, "ALTER TABLE "+quoteIdent(edit.Table)+" "+sql)
		if !p.accept(",") {
			break
		}
	}
	p.finish()
	if p.dead() {
		return
	}
	switch {
	case len(edit.Changes) == 0:
		p.st.SQL = nil
		p.accepted("ALTER TABLE", "this form of ALTER TABLE has no effect")
	case !native || len(edit.Changes) != len(p.st.SQL):
		p.st.Kind, p.st.SQL, p.st.Rebuild = AlterRebuild, nil, edit
	}
}

// renameAny reads RENAME, which stands alone, and says whether it was SQLite's to do.
func (p *parser) renameAny(edit *TableEdit) bool {
	p.next()
	prefix := "ALTER TABLE " + quoteIdent(edit.Table) + " RENAME "
	switch {
	case p.accept("to"):
		p.st.SQL = []string{prefix + "TO " + quoteIdent(p.name())}
	case p.accept("constraint"):
		c := Change{Op: RenameConstraint, Name: p.name()}
		p.expect("to")
		c.NewName = p.name()
		edit.Changes = append(edit.Changes, c)
		p.st.Kind, p.st.Rebuild = AlterRebuild, edit
	default:
		p.accept("column")
		from := p.name()
		p.expect("to")
		p.st.SQL = []string{prefix + "COLUMN " + quoteIdent(from) + " TO " + quoteIdent(p.name())}
	}
	p.finish()
	return true
}

// alterAction reads one action into the edit and gives SQLite's text of it, "" when SQLite has none.
func (p *parser) alterAction(edit *TableEdit) string {
	at := p.i
	word := p.next().word
	var c *Change
	sql := ""
	switch word {
	case "add":
		c, sql = p.alterAdd(edit)
	case "drop":
		c = p.alterDrop()
	case "alter":
		c, sql = p.alterColumn()
	case "owner", "cluster", "replica", "validate":
		p.skipAction()
		return "-"
	case "set", "reset":
		if p.is("schema") || p.is("logged") || p.is("unlogged") || p.is("access") {
			p.unsupported(at, "ALTER TABLE SET "+strings.ToUpper(p.tok().word)+" is")
		}
		p.skipAction()
		return "-"
	case "enable", "disable", "inherit", "no", "attach", "detach", "of", "not", "force":
		p.unsupported(at, "ALTER TABLE "+strings.ToUpper(word)+" is")
		return ""
	default:
		p.i = at
		p.syntaxError()
		return ""
	}
	if c != nil && !p.dead() {
		edit.Changes = append(edit.Changes, *c)
	}
	return sql
}

// skipAction skips an action that has no effect here.
func (p *parser) skipAction() {
	for !p.end() && !p.is(",") {
		if p.accept("(") {
			p.skipParenthesis()
			continue
		}
		p.next()
	}
}

func (p *parser) alterAdd(edit *TableEdit) (*Change, string) {
	if p.isAny("constraint", "primary", "unique", "check", "foreign", "exclude") {
		k := p.tableConstraint(false)
		p.mustUnderstand()
		return &Change{Op: AddConstraint, constraint: k}, ""
	}
	p.accept("column")
	c := &Change{Op: AddColumn, IfExists: p.accept("if", "not", "exists")}
	c.column = p.columnDefinition(false)
	p.mustUnderstand()
	if p.dead() || c.IfExists || !c.column.addable() {
		return c, ""
	}
	plain := *c.column
	plain.Constraints = append([]Constraint(nil), c.column.Constraints...)
	if plain.typ != nil {
		plain.setType(plain.typ, false)
	}
	one := &Table{Name: edit.Table, Columns: []*Column{&plain}}
	one.nameConstraints()
	return c, "ADD COLUMN " + plain.String()
}

// addable says whether SQLite can add the column without a new table.
func (c *Column) addable() bool {
	if c.Serial {
		return false
	}
	value := c.find(Default)
	if c.find(NotNull) != nil && (value == nil || value.Text == "DEFAULT NULL") {
		return false
	}
	for i := range c.Constraints {
		switch k := &c.Constraints[i]; k.Kind {
		case PrimaryKey, Unique:
			return false
		case ForeignKey:
			if value != nil {
				return false
			}
		case Default:
			if strings.HasPrefix(k.Text, "DEFAULT (") {
				return false
			}
		case Generated:
			if strings.HasSuffix(asciiLower(k.Text), "stored") {
				return false
			}
		}
	}
	return true
}

func (p *parser) alterDrop() *Change {
	c := &Change{Op: DropColumn}
	if p.accept("constraint") {
		c.Op = DropConstraint
	} else {
		p.accept("column")
	}
	c.IfExists = p.accept("if", "exists")
	name := p.name()
	if c.Op == DropColumn {
		c.Column = name
	} else {
		c.Name = name
	}
	if !p.accept("cascade") {
		p.accept("restrict")
	}
	return c
}

func (p *parser) alterColumn() (*Change, string) {
	if p.is("constraint") {
		p.unsupported(p.i, "ALTER TABLE ALTER CONSTRAINT is")
		return nil, ""
	}
	p.accept("column")
	c := &Change{Column: p.name()}
	column := "ALTER COLUMN " + quoteIdent(c.Column)
	switch {
	case p.accept("set", "not", "null"):
		c.Op = SetNotNull
		return c, column + " SET NOT NULL"
	case p.accept("drop", "not", "null"):
		c.Op = DropNotNull
		return c, column + " DROP NOT NULL"
	case p.accept("drop", "default"):
		c.Op = DropDefault
	case p.accept("set", "default"):
		c.Op = SetDefault
		start := p.i
		c.value = p.level(levelOr)
		c.expr = p.text(start, p.i)
		p.mustUnderstand()
	case p.accept("set", "data", "type"), p.accept("type"):
		p.alterType(c)
	case p.is("set", "statistics"), p.is("set", "storage"), p.is("set", "compression"), p.is("set", "("), p.is("reset"):
		p.skipAction()
		return nil, "-"
	default:
		p.unsupported(p.i, "this form of ALTER COLUMN is")
	}
	return c, ""
}

func (p *parser) alterType(c *Change) {
	c.Op = AlterType
	at := p.i
	if word := p.tok().word; strings.Contains(word, "serial") {
		p.refuse(at, sqlstate.UndefinedObject, "type \"%s\" does not exist", word)
	}
	c.typ = p.typeNameAt()
	if p.is("collate") {
		start := p.i
		p.next()
		p.collation(start)
	}
	if p.accept("using") {
		start := p.i
		p.expression()
		c.expr = strings.TrimSpace(p.text(start, p.i))
		p.mustUnderstand()
	}
}
