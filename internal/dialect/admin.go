package dialect

import (
	"strings"

	"skein/internal/sqlstate"
)

// database reads what follows CREATE, ALTER or DROP DATABASE.
func (p *parser) database(k Kind, tag string) {
	p.kind(k, tag)
	d := &DatabaseStmt{}
	p.st.Database = d
	if k == DropDatabase && p.accept("if", "exists") {
		d.IfExists = true
	}
	d.Name = p.name()
	switch k {
	case CreateDatabase:
		p.databaseOptions(d)
	case DropDatabase:
		if p.accept("with") || p.is("(") {
			p.expect("(", "force", ")")
			d.Force = true
		}
		p.finish()
	case AlterDatabase:
		p.alterDatabase(d)
	}
}

func (p *parser) databaseOptions(d *DatabaseStmt) {
	p.accept("with")
	for !p.dead() && !p.end() {
		name := p.name()
		if name == "connection" {
			p.expect("limit")
		}
		p.accept("=")
		value := ""
		if !p.accept("default") {
			value = p.optionValue()
		}
		switch name {
		case "owner":
			d.Owner = value
		case "template":
			d.Template = value
		case "encoding":
			d.Encoding = value
		case "lc_collate", "lc_ctype", "locale", "tablespace", "connection", "allow_connections", "is_template",
			"icu_locale", "locale_provider", "strategy", "collation_version", "oid":
		default:
			p.refuse(p.i-1, sqlstate.SyntaxError, "database option \"%s\" not recognized", name)
		}
	}
}

func (p *parser) alterDatabase(d *DatabaseStmt) {
	switch {
	case p.accept("rename", "to"):
		d.NewName = p.name()
		p.finish()
	case p.accept("owner", "to"):
		d.Owner = p.name()
		p.finish()
	default:
		p.alterSetting()
	}
}

// alterSetting reads SET name = value and RESET name after ALTER SYSTEM, DATABASE and ROLE.
func (p *parser) alterSetting() {
	v := &Variable{}
	p.st.Set = v
	switch {
	case p.accept("set"):
		p.setValue(v)
	case p.accept("reset"):
		v.Name, v.Default = p.variableName(true), true
	default:
		p.unsupported(p.i, "this form of "+p.st.Tag+" is")
	}
	p.finish()
}

// role reads what follows CREATE or ALTER ROLE, USER or GROUP; login is the default of LOGIN.
func (p *parser) role(k Kind, tag string, login Choice) {
	p.kind(k, tag)
	r := &RoleStmt{Login: login}
	p.st.Role = r
	every := k == AlterRole && p.accept("all")
	if !every {
		r.Name = p.name()
	}
	if k == AlterRole {
		if p.accept("rename", "to") {
			r.NewName = p.name()
			p.finish()
			return
		}
		inDatabase := p.accept("in", "database")
		if inDatabase {
			r.Database = p.name()
		}
		if every || inDatabase || p.isAny("set", "reset") {
			p.alterSetting()
			return
		}
	}
	p.accept("with")
	for !p.dead() && !p.end() {
		p.roleOption(r)
	}
}

func (p *parser) roleOption(r *RoleStmt) {
	word := p.next().word
	name, value := word, On
	if flag := strings.TrimPrefix(word, "no"); flag != word && r.flag(flag) != nil {
		name, value = flag, Off
	}
	if flag := r.flag(name); flag != nil {
		*flag = value
		return
	}
	switch word {
	case "encrypted", "unencrypted":
		p.expect("password")
		p.password(r)
	case "password":
		p.password(r)
	case "valid":
		p.expect("until")
		r.ValidUntil = p.stringValue()
	case "connection":
		p.expect("limit")
		n, ok := p.integer()
		if !ok || n < -1 || n > 1<<30 {
			p.syntaxError()
		}
		r.HasConnLimit, r.ConnLimit = true, int(n)
	case "in", "role", "admin", "user", "group":
		p.unsupported(p.i-1, "role membership is")
	case "sysid":
		p.integer()
	default:
		p.i--
		p.syntaxError()
	}
}

// flag finds the setting that a word such as LOGIN stands for.
func (r *RoleStmt) flag(word string) *Choice {
	switch word {
	case "login":
		return &r.Login
	case "superuser":
		return &r.Superuser
	case "createdb":
		return &r.CreateDB
	case "createrole":
		return &r.CreateRole
	case "inherit":
		return &r.Inherit
	case "replication":
		return &r.Replication
	case "bypassrls":
		return &r.BypassRLS
	}
	return nil
}

func (p *parser) password(r *RoleStmt) {
	r.HasPassword = true
	if !p.accept("null") {
		r.Password = p.stringValue()
	}
}

// dropNames reads [IF EXISTS] a, b, … [CASCADE|RESTRICT].
func (p *parser) dropNames(k Kind, tag string) {
	p.kind(k, tag)
	p.st.IfExists = p.accept("if", "exists")
	for !p.dead() {
		p.st.Names = append(p.st.Names, p.dottedName())
		if !p.accept(",") {
			break
		}
	}
	if len(p.st.Names) > 0 {
		p.st.Name = p.st.Names[0]
	}
	if !p.accept("cascade") {
		p.accept("restrict")
	}
	p.finish()
}

// schema reads CREATE SCHEMA.
func (p *parser) schema() {
	p.kind(CreateSchema, "CREATE SCHEMA")
	p.st.IfExists = p.accept("if", "not", "exists")
	if !p.is("authorization") {
		p.st.Name = p.name()
	}
	if p.accept("authorization") {
		role := p.name()
		if p.st.Name == "" {
			p.st.Name = role
		}
	}
	if !p.end() {
		p.unsupported(p.i, "CREATE SCHEMA with elements is")
	}
}

// accepted is a statement without effect.
func (p *parser) accepted(tag, notice string) {
	p.kind(NoOp, tag)
	p.st.Notice = notice
}
