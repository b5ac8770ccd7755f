package dialect

import (
	"strconv"
	"strings"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// typeName is a type as it stands in the text, with its modifiers.
type typeName struct {
	typ  *oid.Type
	mod  int32
	args []string // of varchar(20), numeric(10,2)
}

// typeNameAt reads a type's name; an unknown one is refused.
func (p *parser) typeNameAt() *typeName {
	start := p.i
	t := &typeName{mod: -1}
	name := p.typeWords()
	if p.dead() {
		return t
	}
	name = p.typeArguments(t, name)
	if p.accept("array") {
		name += "[]"
		p.accept("[")
		p.integer()
		p.accept("]")
	}
	for p.is("[") && (p.peek(1).is("]") || p.peek(1).kind == tokenNumber && p.peek(2).is("]")) {
		p.i += 2
		p.accept("]")
		if !strings.HasSuffix(name, "[]") {
			name += "[]"
		}
	}
	t.typ = oid.ByName(name)
	if t.typ == nil || t.typ.OID == oid.Money {
		p.unknownType(start, name)
		return t
	}
	if (name == "char" || name == "character" || name == "nchar") && len(t.args) == 0 {
		t.args = []string{"1"}
	}
	t.mod = oid.Modifier(t.typ.OID, strings.Join(t.args, ","))
	return t
}

func (p *parser) unknownType(at int, name string) {
	switch name {
	case "money", "bit", "bit varying", "varbit", "point", "line", "lseg", "box", "path", "polygon", "circle", "inet", "cidr",
		"macaddr", "macaddr8", "tsvector", "tsquery", "xml", "int4range", "int8range", "numrange",
		"tsrange", "tstzrange", "daterange", "hstore":
		p.refuse(at, sqlstate.FeatureNotSupported, "type %s is not supported", name)
	default:
		p.refuse(at, sqlstate.UndefinedObject, "type \"%s\" does not exist", name)
	}
}

// typeWords reads the words of a type's name, without modifiers.
func (p *parser) typeWords() string {
	for p.tok().name() && p.peek(1).is(".") {
		p.i += 2
	}
	t := p.tok()
	if !t.name() {
		p.syntaxError()
		return ""
	}
	p.next()
	if t.kind == tokenQuoted {
		if t.word == "char" {
			return `"char"`
		}
		return t.word
	}
	switch t.word {
	case "double":
		p.accept("precision")
		return "double precision"
	case "character", "char", "national", "nchar":
		name := t.word
		if name == "national" {
			name = p.next().word
		}
		if p.accept("varying") {
			return "character varying"
		}
		return name
	case "bit":
		if p.accept("varying") {
			return "bit varying"
		}
	}
	return t.word
}

// typeArguments reads the modifiers and the words that follow them, and completes the name.
func (p *parser) typeArguments(t *typeName, name string) string {
	if name == "interval" {
		p.intervalFields()
	}
	if p.is("(") && (p.peek(1).kind == tokenNumber || p.peek(1).is("-")) {
		p.next()
		for !p.dead() {
			n, ok := p.integer()
			if !ok {
				p.syntaxError()
				break
			}
			t.args = append(t.args, strconv.FormatInt(n, 10))
			if !p.accept(",") {
				break
			}
		}
		p.expect(")")
	}
	switch name {
	case "timestamp", "time":
		if p.accept("with", "time", "zone") {
			return name + "tz"
		}
		p.accept("without", "time", "zone")
	case "float":
		if len(t.args) == 1 {
			if n, _ := strconv.Atoi(t.args[0]); n <= 24 {
				name = "float4"
			}
			t.args = nil
		}
	}
	return name
}

var intervalUnits = wordSet("year month day hour minute second")

// intervalFields reads YEAR, DAY TO SECOND and the like, and gives the first.
func (p *parser) intervalFields() string {
	if !intervalUnits[p.tok().word] || p.tok().kind != tokenWord {
		return ""
	}
	unit := p.next().word
	if p.is("to") && intervalUnits[p.peek(1).word] {
		p.i += 2
	}
	return unit
}

// castName is the function that casts to the type.
func (t *typeName) castName() string {
	switch {
	case t.typ.OID == oid.Int2Vector || t.typ.OID == oid.OIDVector:
		return "cast_array"
	case t.typ.Elem != 0:
		return "cast_array"
	case t.typ.OID == oid.OIDType:
		return "cast_oid"
	}
	return "cast_" + t.typ.Name
}

// castArgs are the modifiers as further arguments.
func (t *typeName) castArgs() string {
	if len(t.args) == 0 || t.typ.Elem != 0 {
		return ""
	}
	return ", " + strings.Join(t.args, ", ")
}

func isRegType(t oid.OID) bool {
	if typ := oid.ByOID(t); typ != nil {
		return strings.HasPrefix(typ.Name, "reg")
	}
	return false
}

// colonCast reads e::type.
func (p *parser) colonCast(e *expr) *expr {
	at := p.i
	p.next()
	t := p.typeNameAt()
	if p.dead() {
		return e
	}
	p.remove(at, p.i)
	return p.cast(e, e.i, t)
}

// cast wraps the tokens from start to here, of which e is what is left, in the cast's function.
func (p *parser) cast(e *expr, start int, t *typeName) *expr {
	inner := e.bare()
	if inner.kind == exprParam && t.typ.OID != 0 {
		if s := &p.st.ParamTypes[inner.param-1]; *s == 0 {
			*s = t.typ.OID
		}
	}
	name := t.castName()
	if inner.kind == exprCast && isRegType(inner.typ) && (t.typ.OID == oid.Text || t.typ.OID == oid.Varchar || t.typ.OID == oid.Name) {
		name = oid.ByOID(inner.typ).Name + "_out"
	}
	mark := p.markOperand(e, start, t.typ.OID)
	p.wrap(start, p.i, name+"(", t.castArgs()+")")
	n := p.node(exprCast, start, tightAtom, e)
	n.mark = mark
	n.typ, n.mod, n.typ0 = t.typ.OID, t.mod, strings.TrimPrefix(t.typ.Name, "_")
	return n
}

// bare takes the parentheses off.
func (e *expr) bare() *expr {
	for e.kind == exprParen {
		e = e.args[0]
	}
	return e
}

// castFunction reads CAST(e AS type).
func (p *parser) castFunction() *expr {
	start := p.i
	p.i += 2
	e := p.expression()
	as := p.i
	if !p.want("as") {
		return e
	}
	t := p.typeNameAt()
	if !p.want(")") || p.dead() {
		return e
	}
	p.remove(start, start+2)
	p.remove(as, p.i)
	return p.cast(e, start, t)
}

// startsTypedLiteral says whether a word starts a literal such as date '2020-01-01'.
func (p *parser) startsTypedLiteral() bool {
	next := p.peek(1)
	if next.kind == tokenString {
		return true
	}
	switch p.tok().word {
	case "timestamp", "time":
		return next.is("with") || next.is("without") || next.is("(") && p.peek(2).kind == tokenNumber && p.peek(3).is(")") &&
			(p.peek(4).kind == tokenString || p.peek(4).is("with") || p.peek(4).is("without"))
	case "double":
		return next.is("precision") && p.peek(2).kind == tokenString
	case "character":
		return next.is("varying") && p.peek(2).kind == tokenString
	case "pg_catalog":
		return next.is(".") && p.peek(3).kind == tokenString
	case "interval":
		return next.is("(") && p.peek(4).kind == tokenString
	}
	return false
}

// typedLiteral reads type 'literal'.
func (p *parser) typedLiteral() *expr {
	start := p.i
	t := p.typeNameAt()
	if p.dead() || p.tok().kind != tokenString {
		p.lose()
		return p.atom(exprOther, start)
	}
	at := p.i
	value := p.next().word
	if t.typ.OID == oid.Interval {
		if unit := p.intervalFields(); unit != "" && isNumeric(value) {
			value += " " + unit
		}
	}
	p.collapse(start, p.i, quoteString(value))
	p.toks[start].word = value
	e := &expr{kind: exprString, i: start, j: p.i, tight: tightAtom, name: p.toks[at].word, mod: -1}
	return p.cast(e, start, t)
}

func isNumeric(s string) bool {
	s = strings.TrimSpace(s)
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}
