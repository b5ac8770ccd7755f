package dialect

import "strings"

// Parse splits a query text into statements and rewrites each for SQLite. The error is a
// *sqlstate.Error; a text with nothing but spaces and comments gives no statements.
func Parse(sql string) ([]*Statement, error) {
	toks, err := tokenize(sql)
	if err != nil {
		return nil, err
	}
	var list []*Statement
	for len(toks) > 0 {
		n := statementEnd(toks)
		one := toks[: n+1 : n+1]
		toks = toks[n+1:]
		if n == 0 {
			continue
		}
		one[n] = token{kind: tokenEnd, pos: one[n-1].end, end: one[n-1].end}
		st, err := newStatement(sql, one, false)
		if err != nil {
			return nil, err
		}
		list = append(list, st)
	}
	return list, nil
}

// statementEnd finds the semicolon, or the end of the text, that ends the first statement. The
// semicolons in a trigger's body do not count.
func statementEnd(toks []token) int {
	trigger := isTrigger(toks)
	blocks := 0
	for i := range toks {
		t := &toks[i]
		switch {
		case t.kind == tokenEnd:
			return i
		case trigger && (t.is("begin") || t.is("case")):
			blocks++
		case trigger && t.is("end") && blocks > 0:
			blocks--
		case t.is(";") && blocks == 0: // in a parenthesis too: nothing in a query can go on behind it
			return i
		}
	}
	return len(toks) - 1
}

func isTrigger(toks []token) bool {
	if !toks[0].is("create") {
		return false
	}
	for _, t := range toks[1:min(4, len(toks))] {
		if t.is("trigger") {
			return true
		}
	}
	return false
}

// statement finds out what the statement is and hands it to its parser.
func (p *parser) statement() {
	first := p.tok()
	if first.kind == tokenOp && first.word == "(" && p.opensQuery() {
		p.selectStatement()
		return
	}
	if first.kind != tokenWord {
		p.syntaxError()
		return
	}
	p.dispatch(first.word)
}

func (p *parser) dispatch(word string) {
	switch word {
	case "select", "values", "table":
		p.selectStatement()
	case "with":
		p.withStatement()
	case "insert", "update", "delete":
		p.changeStatement()
	case "replace":
		if !p.peek(1).is("into") {
			p.syntaxError()
			return
		}
		p.changeStatement()
	case "create":
		p.create()
	case "drop":
		p.dropStatement()
	case "alter":
		p.alter()
	case "merge", "call", "do", "cluster", "refresh", "security", "import", "load", "reassign", "attach", "detach":
		p.unsupported(p.i, strings.ToUpper(word)+" is")
	default:
		p.utility(word)
	}
}

// rows parses a statement with parse and gives SQLite the edited text, whether or not all of it was
// understood.
func (p *parser) rows(parse func()) {
	p.marking = strings.IndexByte(p.src, markByte) < 0
	parse()
	if !p.dead() && !p.end() {
		p.lose()
	}
	if p.err != nil {
		return
	}
	p.st.FromKnown = !p.lost
	for i := range p.toks {
		p.callAt(i)
		p.st.NamesObjects = p.st.NamesObjects || asksCatalog(&p.toks[i])
		p.st.Returning = p.st.Returning || p.lost && p.st.Kind != Select && p.toks[i].is("returning")
	}
	raw := p.render(p.toks)
	p.st.SQL = []string{p.unmarked(raw)}
	if p.st.infer != nil && len(raw) > len(p.st.SQL[0]) {
		p.st.infer.raw = raw
	}
}

// callAt takes note of a function by its name.
func (p *parser) callAt(i int) {
	called := i+1 < len(p.toks) && p.toks[i+1].is("(")
	p.st.AtLeader = p.st.AtLeader || called && keptByLeader(&p.toks[i])
	p.st.SetsConfig = p.st.SetsConfig || called && p.toks[i].name() && p.toks[i].word == "set_config"
}

// keptByLeader says whether a name is that of a function whose answer the leader alone knows: who holds a lock, what the
// session wrote last, which tokens are taken.
func keptByLeader(t *token) bool {
	if !t.name() {
		return false
	}
	switch t.word {
	case "lastval", "currval", "last_insert_rowid", "changes", "total_changes", "skein_transaction_status":
		return true
	}
	return strings.HasPrefix(t.word, "pg_advisory_") || strings.HasPrefix(t.word, "pg_try_advisory_")
}

// asksCatalog says whether a name is of a type or function that looks for tables and the like in the catalog.
func asksCatalog(t *token) bool {
	if !t.name() {
		return false
	}
	switch t.word {
	case "regclass", "to_regclass", "pg_table_size", "pg_total_relation_size", "pg_indexes_size", "obj_description", "col_description":
		return true
	}
	return strings.HasPrefix(t.word, "pg_get_") && t.word != "pg_get_wal_replay_pause_state" || strings.HasPrefix(t.word, "pg_relation_")
}

func (p *parser) selectStatement() {
	p.st.Kind, p.st.Tag = Select, "SELECT"
	p.rows(func() {
		q := p.query()
		p.inferQuery(q)
	})
}

func (p *parser) withStatement() {
	switch p.withVerb() {
	case "insert", "update", "delete", "replace":
		p.changeStatement()
	case "select", "values", "table", "(":
		p.selectStatement()
	case "merge":
		p.unsupported(p.i, "MERGE is")
	default:
		p.syntaxError()
	}
}

// withVerb finds the word after the common table expressions.
func (p *parser) withVerb() string {
	depth := 0
	for i := p.i + 1; i < len(p.toks); i++ {
		t := &p.toks[i]
		switch {
		case t.is("("):
			if depth == 0 && p.toks[i-1].is(")") {
				return "("
			}
			depth++
		case t.is(")"):
			depth--
		case depth == 0 && t.kind == tokenWord:
			switch t.word {
			case "select", "insert", "update", "delete", "values", "table", "merge", "replace":
				return t.word
			}
		}
	}
	return ""
}

func (p *parser) changeStatement() {
	p.rows(func() {
		c := &change{i: p.i}
		// Known before anything can go wrong, because the tag must be right in any case.
		verb := p.tok().word
		if verb == "with" {
			verb = p.withVerb()
			c.with = p.withClause()
		}
		c.withJ = p.i
		if p.dead() {
			p.lostChange(verb)
			return
		}
		switch verb {
		case "insert", "replace":
			p.insert(c)
		case "update":
			p.update(c)
		default:
			p.delete(c)
		}
		p.inferChange(c)
	})
}

// lostChange classifies a change whose WITH clause was not understood.
func (p *parser) lostChange(verb string) {
	switch verb {
	case "insert", "replace":
		p.st.Kind, p.st.Tag = Insert, "INSERT"
	case "update":
		p.st.Kind, p.st.Tag = Update, "UPDATE"
	default:
		p.st.Kind, p.st.Tag = Delete, "DELETE"
	}
}
