package dialect

import "strings"

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
