package dialect

import (
	"strings"

	"skein/internal/sqlstate"
)

// prepared reads PREPARE, EXECUTE, DEALLOCATE and DISCARD.
func (p *parser) prepared(word string) {
	p.next()
	switch word {
	case "prepare":
		p.prepare()
	case "execute":
		p.execute()
	case "deallocate":
		p.accept("prepare")
		p.kind(Deallocate, "DEALLOCATE")
		if p.accept("all") {
			p.st.Tag = "DEALLOCATE ALL"
		} else {
			p.st.Name = p.name()
		}
		p.finish()
	case "discard":
		p.discard()
	}
}

func (p *parser) discard() {
	p.kind(Discard, "DISCARD")
	switch word := p.next().word; word {
	case "all", "plans", "sequences", "temp":
		p.st.Name = strings.ToUpper(word)
	case "temporary":
		p.st.Name = "TEMP"
	default:
		p.i--
		p.syntaxError()
	}
	p.st.Tag = "DISCARD " + p.st.Name
	p.finish()
}

func (p *parser) prepare() {
	if p.is("transaction") {
		p.unsupported(p.i, "PREPARE TRANSACTION is")
	}
	p.kind(Prepare, "PREPARE")
	s := &PrepareStmt{Name: p.name()}
	if p.accept("(") {
		for !p.dead() {
			if t := p.typeNameAt(); t.typ != nil {
				s.Types = append(s.Types, t.typ.OID)
			}
			if !p.accept(",") {
				break
			}
		}
		p.expect(")")
	}
	p.expect("as")
	s.Query = p.nested(len(p.toks) - 1)
	p.st.Prepare = s
	// Its parameters are those of the inner statement, not of PREPARE itself.
	p.st.NumParams, p.st.ParamTypes = 0, nil
}

func (p *parser) execute() {
	p.kind(Execute, "EXECUTE")
	p.st.Prepare = &PrepareStmt{Name: p.name()}
	if p.accept("(") {
		start := p.i
		p.list()
		end := p.i
		for i := start; i < end; i++ {
			p.callAt(i)
			if t := &p.toks[i]; t.is("select") || t.is("values") || t.is("with") {
				p.refuse(i, sqlstate.FeatureNotSupported, "cannot use subquery in EXECUTE parameter")
			}
		}
		p.expect(")")
		if !p.dead() {
			p.st.SQL = []string{"SELECT " + p.text(start, end)}
		}
	}
	if p.lost {
		p.lost, p.i = false, 0
		p.syntaxError()
	}
	p.finish()
}

// cursor reads DECLARE, FETCH, MOVE and CLOSE.
func (p *parser) cursor(word string) {
	p.next()
	switch word {
	case "declare":
		p.declare()
	case "fetch":
		p.kind(Fetch, "FETCH")
		p.fetch()
	case "move":
		p.kind(Move, "MOVE")
		p.fetch()
	case "close":
		p.kind(CloseCursor, "CLOSE CURSOR")
		if p.accept("all") {
			p.st.Tag = "CLOSE CURSOR ALL"
		} else {
			p.st.Name = p.name()
		}
		p.finish()
	}
}

func (p *parser) declare() {
	p.kind(DeclareCursor, "DECLARE CURSOR")
	c := &CursorStmt{Name: p.name()}
	for !p.dead() && !p.accept("cursor") {
		switch {
		case p.accept("binary"):
			c.Binary = true
		case p.accept("insensitive"), p.accept("asensitive"):
		case p.accept("no", "scroll"):
			c.Scroll = Off
		case p.accept("scroll"):
			c.Scroll = On
		default:
			p.syntaxError()
		}
	}
	if p.accept("with", "hold") {
		c.Hold = true
	} else {
		p.accept("without", "hold")
	}
	p.expect("for")
	if p.isAny("insert", "update", "delete") {
		p.syntaxError()
	}
	c.Query = p.nested(len(p.toks) - 1)
	p.st.Cursor = c
}

// fetch reads the direction and the cursor of FETCH and MOVE.
func (p *parser) fetch() {
	c := &CursorStmt{Count: 1}
	p.direction(c)
	if !p.accept("from") {
		p.accept("in")
	}
	c.Name = p.name()
	p.st.Cursor = c
	p.finish()
}

func (p *parser) direction(c *CursorStmt) {
	if p.peek(1).kind == tokenEnd {
		return
	}
	switch {
	case p.accept("next"), p.accept("first"), p.accept("last"), p.accept("prior"):
		switch p.toks[p.i-1].word {
		case "first":
			c.Direction = Absolute
		case "last":
			c.Direction, c.Count = Absolute, -1
		case "prior":
			c.Direction = Backward
		}
	case p.accept("absolute"):
		c.Direction = Absolute
		p.count(c, true)
	case p.accept("relative"):
		c.Direction = Relative
		p.count(c, true)
	case p.accept("forward"):
		p.count(c, false)
	case p.accept("backward"):
		c.Direction = Backward
		p.count(c, false)
	default:
		p.count(c, false)
	}
}

// count reads a number or ALL.
func (p *parser) count(c *CursorStmt, required bool) {
	if p.accept("all") {
		c.All = true
		return
	}
	n, ok := p.integer()
	if ok {
		c.Count = n
	} else if required {
		p.syntaxError()
	}
}
