package dialect

import (
	"cmp"

	"skein/internal/oid"
)

// Positions in the log, of PostgreSQL's type pg_lsn, are text such as 0/1A2B, which does not sort as
// its value does: columns have a collation that compares them, computed ones get it here. Intervals, such as 10 days, get theirs
// here always.

// comparePositions is the collation of columns that hold them.
const comparePositions = " COLLATE pg_lsn"

// byCollation names the collation by which a value of a type is compared wherever it is; "" for most.
func byCollation(t oid.OID) string {
	switch t {
	case oid.PgLSN:
		return comparePositions
	case oid.Interval:
		return " COLLATE interval"
	}
	return ""
}

// positionArithmetic names the functions that compute with positions.
var positionArithmetic = map[string]string{"+": "pg_lsn_add(", "-": "pg_lsn_sub("}

// positionResult types + and - on positions; 0 when neither side is one.
func positionResult(op string, a, b oid.OID) oid.OID {
	switch {
	case a != oid.PgLSN && b != oid.PgLSN:
		return 0
	case op == "-" && (b == oid.PgLSN || known(b) == 0): // a literal beside a position is one
		return oid.Numeric
	}
	return oid.PgLSN
}

// positions makes an operator on positions compute, or on those and intervals compare, by value.
func (y *typer) positions(e *expr, sc *scope) {
	if e.mark == 0 || len(e.args) != 2 {
		return
	}
	a, b := y.typeOf(e.args[0], sc), y.typeOf(e.args[1], sc)
	if y.edits == nil {
		return
	}
	if e.kind == exprCompare {
		if by := cmp.Or(byCollation(a), byCollation(b)); by != "" {
			y.edits[e.mark] = edit{before: "((", operator: ")" + by + " " + e.name + " ", after: ")"}
		}
		return
	}
	if name := positionArithmetic[e.name]; name != "" && (a == oid.PgLSN || b == oid.PgLSN) {
		y.edits[e.mark] = edit{before: name, operator: ",", after: ")"}
	}
}

// positionsAmong does so for BETWEEN, IN, min, max, nullif, greatest and least. It gives false when there
// are neither among the operands.
func (y *typer) positionsAmong(e *expr, sc *scope) bool {
	if len(e.args) == 0 {
		return false
	}
	t := y.common(e.args, sc)
	by := byCollation(t)
	if by == "" {
		return false
	}
	if y.edits == nil {
		return true
	}
	switch {
	case e.name == "greatest" || e.name == "least":
		y.edits[e.mark] = edit{operator: map[oid.OID]string{oid.PgLSN: "pg_lsn_", oid.Interval: "interval_"}[t] + e.name}
	case len(e.marks) > 0 && e.marks[0] > 0:
		y.edits[e.marks[0]] = edit{after: by}
	}
	return true
}
