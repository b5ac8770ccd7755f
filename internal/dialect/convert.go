package dialect

import "skein/internal/oid"

// Values leave their form inside SQLite where a statement makes another type of them: a truth value
// is a number there, and a timestamp with time zone the wall clock of UTC, while PostgreSQL shows it
// in the session's time zone.

// markOperand marks the operand of a cast, if its type may make a difference.
func (p *parser) markOperand(e *expr, start int, to oid.OID) int {
	switch e.bare().kind {
	case exprNull, exprString, exprNumber:
		return 0
	}
	if !isTextual(to) && !isTemporal(to) {
		return 0
	}
	id := p.newMark()
	if id > 0 {
		p.wrap(start, p.i, markText(markBefore, id), markText(markAfter, id))
	}
	return id
}

func isTextual(t oid.OID) bool {
	return t == oid.Text || t == oid.Varchar || t == oid.Bpchar || t == oid.Name
}

// conversion is the function that brings a value of one type into the form from which another type
// is read; "" where it needs none.
func conversion(from, to oid.OID) string {
	switch {
	case from == oid.Bool && isTextual(to):
		return "bool_text("
	case from == oid.Regproc && isTextual(to):
		return "regproc_out("
	case from == oid.Interval && to == oid.Time:
		return "interval_time("
	case from == oid.Interval && isTextual(to):
		return "interval_text("
	case from != oid.Timestamptz:
		return ""
	case isTextual(to), to == oid.Timestamptz, to == oid.TimeTZ:
		return "timestamptz_text("
	case to == oid.Timestamp, to == oid.Date, to == oid.Time:
		return "timestamptz_local("
	}
	return ""
}

// castOperand converts the operand of a cast.
func (y *typer) castOperand(e *expr, sc *scope) {
	if y.edits != nil && !isFloat(e.typ) {
		y.quoteDecimal(e.args[0])
	}
	if e.mark == 0 {
		return
	}
	from := y.typeOf(e.args[0], sc)
	if fn := conversion(from, e.typ); fn != "" && y.edits != nil {
		y.edits[e.mark] = edit{before: fn, after: ")"}
	}
}

// shown converts operands that become part of a text.
func (y *typer) shown(e *expr, sc *scope) {
	if e.kind == exprOp && e.name == "||" && e.mark > 0 {
		a, b := y.typeOf(e.args[0], sc), y.typeOf(e.args[1], sc)
		if fn := joinFunction(a, b); fn != "" {
			if y.edits != nil {
				y.edits[e.mark] = edit{before: fn, operator: ",", after: ")"}
			}
			return
		}
	}
	for n, a := range e.args {
		if n >= len(e.marks) || e.marks[n] == 0 {
			continue
		}
		from := y.typeOf(a, sc)
		fn := conversion(from, oid.Text)
		if fn != "" && from == oid.Bool && e.kind != exprOp {
			fn = "bool_out(" // concat, format and arrays write t and f
		}
		if e.kind != exprOp && e.name != "concat" && e.name != "concat_ws" && e.name != "format" && from != oid.Bool {
			continue // arrays keep their elements in the form of the columns
		}
		if fn != "" && y.edits != nil {
			y.edits[e.marks[n]] = edit{before: fn, after: ")"}
		}
	}
}

// joinFunction joins what is no text; "" for texts.
func joinFunction(a, b oid.OID) string {
	isArray := func(t oid.OID) bool {
		typ := oid.ByOID(known(t))
		return typ != nil && typ.Elem != 0
	}
	switch {
	case a == oid.Bytea || b == oid.Bytea:
		return "bytea_cat("
	case a == oid.JSONB || b == oid.JSONB:
		return "jsonb_cat("
	case isArray(a) && (isArray(b) || known(b) == 0):
		return "array_cat("
	case isArray(b) && known(a) == 0:
		return "array_cat("
	case isArray(a):
		return "array_append("
	case isArray(b):
		return "array_prepend("
	}
	return ""
}

// zoned are the functions that see a timestamp with time zone in the session's zone, with the ones
// that do.
var zoned = map[string]string{
	"date_trunc": "date_trunc_tz", "date_part": "date_part_tz", "extract": "extract_tz", "to_char": "to_char_tz",
}

// moment chooses the function for a timestamp with or without time zone.
func (y *typer) moment(e *expr, sc *scope) {
	if e.mark == 0 || len(e.args) == 0 {
		return
	}
	n := 1 // of the argument that is the moment
	if e.name == "extract" || e.name == "to_char" {
		n = 0
	}
	if n >= len(e.args) {
		return
	}
	t := y.typeOf(e.args[n], sc)
	if y.edits == nil {
		return
	}
	switch fn := zoned[e.name]; {
	case e.name == "timezone" && t == oid.Timestamp:
		y.edits[e.mark] = edit{operator: "timezone_utc"}
	case fn != "" && t == oid.Timestamptz && len(e.args) < 3:
		y.edits[e.mark] = edit{operator: fn}
	}
}

// comparedMoments brings dates and timestamps of two types into one before they are compared.
func (y *typer) comparedMoments(e *expr, sc *scope) {
	if e.mark == 0 || len(e.args) != 2 {
		return
	}
	for _, arg := range e.args {
		switch arg.bare().kind {
		case exprParam, exprNull, exprString, exprNumber, exprBool, exprRow, exprSubquery:
			return // has the other's type, or is no moment
		}
	}
	a, b := y.typeOf(e.args[0], sc), y.typeOf(e.args[1], sc)
	if a == b || momentRank(a) == 0 || momentRank(b) == 0 || y.edits == nil {
		return
	}
	change := edit{operator: e.name}
	if momentRank(a) < momentRank(b) {
		c := castEdit(b, -1)
		change.before, change.operator = c.before, c.after+" "+e.name+" "
	} else {
		c := castEdit(a, -1)
		change.operator, change.after = " "+e.name+" "+c.before, c.after
	}
	y.edits[e.mark] = change
}

// momentRank orders the types of moments; the lower one is converted to the higher.
func momentRank(t oid.OID) int {
	switch t {
	case oid.Date:
		return 1
	case oid.Timestamp:
		return 2
	case oid.Timestamptz:
		return 3
	}
	return 0
}

// exactItem gives decimal literals and what is computed from nothing else their digits, where they
// are a column of the result: elsewhere they may meet a floating-point number.
func (y *typer) exactItem(e *expr) {
	switch x := e.bare(); {
	case y.edits == nil || !onlyLiterals(x):
	case x.kind == exprNumber:
		y.quoteDecimal(x)
	case x.kind == exprOp && y.typeOf(x, nil) == oid.Numeric:
		x.walk(func(x *expr) {
			if name := arithmeticFunction[x.name]; x.kind == exprOp && x.mark > 0 && len(x.args) == 2 && name != "" {
				y.edits[x.mark] = edit{before: name, operator: ",", after: ")"}
			}
			if x.kind == exprOp && x.mark > 0 && len(x.args) == 1 && x.name == "-" {
				y.edits[x.mark] = edit{before: "numeric_neg(", operator: " ", after: ")"}
			}
			y.quoteDecimal(x)
		})
	}
}

// exactAlternatives gives decimal literals their digits where they stand beside a decimal.
func (y *typer) exactAlternatives(list []*expr, sc *scope) {
	literal, decimal := false, false
	for _, e := range list {
		x := e.bare()
		literal = literal || x.kind == exprNumber && x.mark > 0 && numberType(x.name) == oid.Numeric
	}
	for _, e := range list {
		decimal = literal && (decimal || e.bare().kind != exprNumber && y.typeOf(e, sc) == oid.Numeric)
	}
	for _, e := range list {
		if decimal && y.edits != nil {
			y.quoteDecimal(e)
		}
	}
}

// rounded gives the functions that round decimals their literals with all digits.
func (y *typer) rounded(e *expr) {
	switch e.name {
	case "round", "trunc", "ceil", "ceiling", "floor", "abs", "sign", "mod", "div":
		for _, a := range e.args {
			if y.edits != nil {
				y.quoteDecimal(a)
			}
		}
	}
}

// jsonForm is the function that makes JSON of a value that looks like another one inside SQLite.
func jsonForm(t oid.OID) string {
	switch t {
	case oid.Bool:
		return "json_bool("
	case oid.Numeric:
		return "json_number("
	case oid.JSON, oid.JSONB:
		return "json_of("
	case oid.Timestamp:
		return "json_time("
	}
	return ""
}

// jsonArguments gives the functions that build JSON their arguments as JSON.
func (y *typer) jsonArguments(e *expr, sc *scope) {
	for n, a := range e.args {
		if n >= len(e.marks) || e.marks[n] == 0 {
			continue
		}
		t := y.typeOf(a, sc)
		if y.edits == nil {
			continue
		}
		before, after := jsonForm(t), ")"
		switch typ := oid.ByOID(known(t)); {
		case t == oid.Timestamptz:
			before, after = "json_time(timestamptz_text(", "))"
		case typ != nil && typ.Elem != 0:
			before = "array_to_json("
		}
		if before != "" {
			y.edits[e.marks[n]] = edit{before: before, after: after}
		}
	}
}
