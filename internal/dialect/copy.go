package dialect

import "skein/internal/sqlstate"

// copyStatement reads COPY in its present syntax and in that of PostgreSQL before 9.0, which psql and
// several drivers still send.
func (p *parser) copyStatement() {
	p.kind(Copy, "COPY")
	p.next()
	c := &CopyOptions{Format: "text"}
	p.st.Copy = c
	binary := p.accept("binary")
	query, queryEnd := 0, 0
	if p.is("(") {
		p.next()
		query = p.i
		p.skipParenthesis()
		queryEnd = p.i - 1
	} else {
		c.Table = p.dottedName()
		p.st.Table = c.Table
		if p.is("(") {
			c.Columns = p.nameList()
			p.mustUnderstand()
		}
	}
	at := p.i
	switch {
	case p.accept("from"):
		c.From = true
		p.st.Writing = "COPY FROM"
		p.copyEnd("stdin")
	case p.accept("to"):
		p.copyEnd("stdout")
	default:
		p.syntaxError()
	}
	if c.From && query > 0 {
		p.i = at
		p.syntaxError()
	}
	if binary {
		c.Format = "binary"
	}
	p.copyOptions(c)
	if p.is("where") {
		p.unsupported(p.i, "COPY FROM with WHERE is")
	}
	p.finish()
	p.copyDefaults(c)
	p.copyQuery(c, query, queryEnd)
}

// mustUnderstand turns syntax that a query would leave to SQLite into an error.
func (p *parser) mustUnderstand() {
	if p.lost {
		p.lost, p.i = false, 0
		p.syntaxError()
	}
}

// skipParenthesis moves behind the parenthesis that closes the one before p.
func (p *parser) skipParenthesis() {
	depth := 1
	for !p.end() {
		switch t := p.next(); {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
			if depth == 0 {
				return
			}
		}
	}
	p.syntaxError()
}

func (p *parser) copyEnd(stream string) {
	if p.accept(stream) || p.accept("stdin") || p.accept("stdout") {
		return
	}
	if p.tok().kind == tokenString || p.is("program") {
		p.fail(sqlstate.New(sqlstate.FeatureNotSupported, "COPY with a file or program on the server is not supported").
			WithHint("Use COPY FROM STDIN or COPY TO STDOUT; psql's \\copy does.").At(p.position(p.i)))
		return
	}
	p.syntaxError()
}

// copyQuery fills what COPY … TO reads.
func (p *parser) copyQuery(c *CopyOptions, query, end int) {
	if c.From || p.dead() {
		return
	}
	if query > 0 {
		p.i = query
		c.Query = p.nested(end)
		return
	}
	list := "*"
	if len(c.Columns) > 0 {
		list = quoteList(c.Columns)
	}
	st, err := Parse("SELECT " + list + " FROM " + quoteIdent(c.Table))
	if err != nil || len(st) != 1 {
		p.syntaxError()
		return
	}
	c.Query = st[0]
}

func (p *parser) copyOptions(c *CopyOptions) {
	with := p.accept("with")
	if p.accept("(") {
		for !p.dead() {
			p.copyOption(c, asciiLower(p.name()))
			if !p.accept(",") {
				break
			}
		}
		p.expect(")")
		return
	}
	if with && p.end() {
		p.syntaxError()
	}
	for !p.dead() && !p.end() && !p.is("where") {
		p.oldCopyOption(c)
	}
}

func (p *parser) copyOption(c *CopyOptions, name string) {
	switch name {
	case "format":
		at := p.i
		switch c.Format = asciiLower(p.optionValue()); c.Format {
		case "text", "csv", "binary":
		default:
			p.refuse(at, sqlstate.InvalidParameterValue, "COPY format \"%s\" not recognized", c.Format)
		}
	case "freeze":
		p.copyFlag()
	case "delimiter":
		c.Delimiter = p.copyByte(name)
	case "null":
		c.Null = p.stringValue()
		p.nullGiven = true
	case "header":
		c.Header = true
		if p.is("match") {
			p.next()
			c.HeaderMatch = true
			return
		}
		c.Header = p.copyFlag()
	case "quote":
		c.Quote = p.copyByte(name)
	case "escape":
		c.Escape = p.copyByte(name)
	case "force_quote":
		c.ForceQuote = p.copyColumns()
	case "force_not_null":
		c.ForceNotNull = p.copyColumns()
	case "force_null":
		c.ForceNull = p.copyColumns()
	case "encoding":
		c.Encoding = p.stringValue()
	default:
		p.i--
		p.refuse(p.i, sqlstate.SyntaxError, "option \"%s\" not recognized", name)
	}
}

// copyFlag reads a truth value, which is true when left out.
func (p *parser) copyFlag() bool {
	if p.is(",") || p.is(")") || p.end() {
		return true
	}
	at := p.i
	switch asciiLower(p.optionValue()) {
	case "true", "on", "1":
		return true
	case "false", "off", "0":
		return false
	}
	p.refuse(at, sqlstate.SyntaxError, "a Boolean value is needed here")
	return false
}

func (p *parser) copyByte(name string) byte {
	at := p.i
	s := p.stringValue()
	if len(s) != 1 && !p.dead() {
		p.refuse(at, sqlstate.FeatureNotSupported, "COPY %s must be a single one-byte character", name)
	}
	if len(s) != 1 {
		return 0
	}
	return s[0]
}

// copyColumns reads (a, b) or *.
func (p *parser) copyColumns() []string {
	if p.accept("*") {
		return []string{"*"}
	}
	if !p.is("(") {
		p.syntaxError()
		return nil
	}
	names := p.nameList()
	p.mustUnderstand()
	return names
}

// oldCopyOption reads one option of the old syntax, which has no commas.
func (p *parser) oldCopyOption(c *CopyOptions) {
	switch name := p.next().word; name {
	case "binary", "csv":
		c.Format = name
	case "freeze":
	case "header":
		c.Header = true
	case "delimiter", "delimiters", "quote", "escape":
		p.accept("as")
		b := p.copyByte(name)
		switch name {
		case "quote":
			c.Quote = b
		case "escape":
			c.Escape = b
		default:
			c.Delimiter = b
		}
	case "null":
		p.accept("as")
		c.Null = p.stringValue()
		p.nullGiven = true
	case "encoding":
		c.Encoding = p.stringValue()
	case "force":
		p.forceOption(c)
	default:
		p.i--
		p.syntaxError()
	}
}

func (p *parser) forceOption(c *CopyOptions) {
	columns := func() []string {
		if p.accept("*") {
			return []string{"*"}
		}
		names := []string{p.name()}
		for p.accept(",") {
			names = append(names, p.name())
		}
		return names
	}
	switch {
	case p.accept("quote"):
		c.ForceQuote = columns()
	case p.accept("not", "null"):
		c.ForceNotNull = columns()
	case p.accept("null"):
		c.ForceNull = columns()
	default:
		p.syntaxError()
	}
}

// copyDefaults fills what was left out and refuses what does not go together.
func (p *parser) copyDefaults(c *CopyOptions) {
	if p.dead() {
		return
	}
	csv := c.Format == "csv"
	switch {
	case c.Format == "binary" && (c.Delimiter != 0 || p.nullGiven || c.Header):
		p.refuse(0, sqlstate.SyntaxError, "cannot specify DELIMITER, NULL or HEADER in BINARY mode")
	case !csv && (c.Quote != 0 || c.Escape != 0 || c.ForceQuote != nil || c.ForceNotNull != nil || c.ForceNull != nil):
		p.refuse(0, sqlstate.FeatureNotSupported, "COPY QUOTE, ESCAPE and FORCE are only available in CSV mode")
	}
	if c.Delimiter == 0 {
		c.Delimiter = '\t'
		if csv {
			c.Delimiter = ','
		}
	}
	if !p.nullGiven && !csv {
		c.Null = `\N`
	}
	if !csv {
		return
	}
	if c.Quote == 0 {
		c.Quote = '"'
	}
	if c.Escape == 0 {
		c.Escape = c.Quote
	}
	if c.Quote == c.Delimiter {
		p.refuse(0, sqlstate.FeatureNotSupported, "COPY delimiter and quote must be different")
	}
}
