package pgcatalog

import (
	"encoding/hex"
	"math"
	"strconv"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// The functions that the dialect writes for e::type. Dates and times are in datetime.go, json in
// jsonvalue.go, arrays in array.go.
func castFunctions() []function {
	return []function{
		{"cast_int2", 1, 1, pure, castInt("smallint", math.MinInt16, math.MaxInt16)},
		{"cast_int4", 1, 1, pure, castInt("integer", math.MinInt32, math.MaxInt32)},
		{"cast_int8", 1, 1, pure, castInt("bigint", math.MinInt64, math.MaxInt64)},
		{"cast_oid", 1, 1, pure, castInt("oid", 0, math.MaxUint32)},
		{"cast_xid", 1, 1, pure, castInt("xid", 0, math.MaxUint32)},
		{"cast_cid", 1, 1, pure, castInt("cid", 0, math.MaxUint32)},
		{"cast_xid8", 1, 1, pure, castInt("xid8", 0, math.MaxInt64)},
		{"cast_float4", 1, 1, pure, castFloat4},
		{"cast_float8", 1, 1, pure, castFloat8},
		{"cast_numeric", 1, 3, pure, castNumeric},
		{"cast_text", 1, 1, pure, castText},
		{"cast_unknown", 1, 1, pure, castText},
		{"cast_xml", 1, 1, pure, castText},
		{"cast_pg_node_tree", 1, 1, pure, castText},
		{"cast_record", 1, 1, pure, castText},
		{"cast_cstring", 1, 1, pure, castText},
		{"cast_void", 1, 1, pure, castText},
		{"cast_inet", 1, 1, pure, castText},
		{"cast_name", 1, 1, pure, castName},
		{"cast_varchar", 1, 2, pure, castVarchar},
		{"cast_bpchar", 1, 2, pure, castVarchar},
		{"cast_char", 1, 1, pure, castChar},
		{"cast_bool", 1, 1, pure, castBool},
		{"cast_bytea", 1, 1, pure, castBytea},
		{"cast_uuid", 1, 1, pure, castUUID},
		{"cast_pg_lsn", 1, 1, pure, castLSN},
		{"cast_regclass", 1, 1, 0, castRegclass},
		{"cast_regtype", 1, 1, 0, castRegtype},
		{"cast_regproc", 1, 1, 0, castRegproc},
		{"cast_regprocedure", 1, 1, 0, castRegproc},
		{"cast_regnamespace", 1, 1, 0, castRegnamespace},
		{"cast_regrole", 1, 1, 0, castRegrole},
		{"cast_regcollation", 1, 1, 0, castText},
		{"cast_regconfig", 1, 1, 0, castText},
		{"cast_regoper", 1, 1, 0, castText},
		{"cast_regoperator", 1, 1, 0, castText},
		{"to_regclass", 1, 1, 0, toReg(castRegclass)},
		{"to_regtype", 1, 1, 0, toReg(castRegtype)},
		{"to_regproc", 1, 1, 0, toReg(castRegproc)},
		{"to_regprocedure", 1, 1, 0, toReg(castRegproc)},
		{"to_regnamespace", 1, 1, 0, toReg(castRegnamespace)},
		{"to_regrole", 1, 1, 0, toReg(castRegrole)},
		{"regclass_out", 1, 1, 0, regclassOut},
		{"regtype_out", 1, 1, 0, regtypeOut},
		{"regproc_out", 1, 1, 0, regprocOut},
		{"regprocedure_out", 1, 1, 0, regprocOut},
		{"regnamespace_out", 1, 1, 0, regnamespaceOut},
		{"regrole_out", 1, 1, 0, getUserByID},
		{"regoper_out", 1, 1, 0, castText},
		{"regoperator_out", 1, 1, 0, castText},
		{"regcollation_out", 1, 1, 0, castText},
		{"regconfig_out", 1, 1, 0, castText},
		{"not_null", 2, 2, 0, notNull},
		{"bytea_cat", 2, 2, pure, byteaCat},
		{"bool_text", 1, 1, pure, boolText("true", "false")},
		{"bool_out", 1, 1, pure, boolText("t", "f")},
	}
}

// byteaCat joins two byte strings; a text is one in bytea's own spelling.
func byteaCat(c *call) error {
	var joined []byte
	for i := range c.arg {
		part := c.bytes(i)
		if c.arg[i].Type() != sqlite3.BLOB {
			var ok bool
			if part, ok = parseBytea(c.text(i)); !ok {
				return badText("bytea", c.text(i))
			}
		}
		joined = append(joined, part...)
	}
	return c.returnBlob(joined)
}

// boolText spells a truth value, which is a number inside SQLite.
func boolText(yes, no string) func(*call) error {
	return func(c *call) error {
		switch {
		case c.arg[0].Type() != sqlite3.INTEGER:
			return c.returnArg(0)
		case c.arg[0].Int64() != 0:
			return c.returnText(yes)
		}
		return c.returnText(no)
	}
}

// notNull stands where INSERT has no value for a primary key that SQLite would number by itself.
func notNull(c *call) error {
	table, column := c.text(0), c.text(1)
	err := sqlstate.New(sqlstate.NotNullViolation, "null value in column \"%s\" of relation \"%s\" violates not-null constraint", column, table)
	err.Schema, err.Table, err.Column = "public", table, column
	return err
}

func castInt(typ string, low, high int64) func(*call) error {
	return func(c *call) error {
		n, err := toInt(c.arg[0], typ)
		if err != nil {
			return err
		}
		if n < low || n > high {
			if c.arg[0].Type() == sqlite3.TEXT {
				return sqlstate.New(sqlstate.NumericOutOfRange, "value \"%s\" is out of range for type %s", c.text(0), typ)
			}
			return outOfRange(typ)
		}
		return c.returnInt(n)
	}
}

func castFloat4(c *call) error {
	f, err := toFloat(c.arg[0], "real")
	if err != nil {
		return err
	}
	g := float64(float32(f))
	if math.IsInf(g, 0) && !math.IsInf(f, 0) {
		return sqlstate.New(sqlstate.NumericOutOfRange, "\"%s\" is out of range for type real", c.text(0))
	}
	// The shortest decimal of the float4, so that it prints as a float4 prints.
	if g, err = strconv.ParseFloat(strconv.FormatFloat(g, 'g', -1, 32), 64); err != nil {
		return outOfRange("real")
	}
	return c.returnFloat(g)
}

func castFloat8(c *call) error {
	f, err := toFloat(c.arg[0], "double precision")
	if err != nil {
		return err
	}
	if math.IsNaN(f) {
		// SQLite would make NULL of it.
		return sqlstate.New(sqlstate.FeatureNotSupported, "NaN is not supported as a value of type double precision")
	}
	return c.returnFloat(f)
}

func castNumeric(c *call) error {
	d, err := toDecimal(c.arg[0])
	if err != nil {
		return err
	}
	if len(c.arg) == 1 {
		return c.returnText(formatDecimal(d))
	}
	precision, err := c.int(1)
	if err != nil {
		return err
	}
	places, err := c.intOr(2, 0)
	if err != nil {
		return err
	}
	if precision < 1 || precision > 1000 || places < -1000 || places > 1000 {
		return sqlstate.New(sqlstate.InvalidParameterValue, "NUMERIC precision %d must be between 1 and 1000", precision)
	}
	r := roundTo(d, int32(places))
	if !r.IsZero() && r.NumDigits()+int64(r.Exponent) > precision-places {
		return sqlstate.New(sqlstate.NumericOutOfRange, "numeric field overflow").
			WithDetail("A field with precision %d, scale %d must round to an absolute value less than 10^%d.", precision, places, precision-places)
	}
	return c.returnText(formatDecimal(plain(r)))
}

func castText(c *call) error { return c.returnText(c.text(0)) }

func castName(c *call) error {
	s := c.text(0)
	if len(s) > 63 {
		s = strings.ToValidUTF8(s[:63], "")
	}
	return c.returnText(s)
}

func castVarchar(c *call) error {
	s := c.text(0)
	if len(c.arg) == 1 {
		return c.returnText(s)
	}
	n, err := c.int(1)
	if err != nil {
		return err
	}
	return c.returnText(firstRunes(s, int(min(max(n, 0), 1<<30))))
}

// firstRunes gives the first n characters of s.
func firstRunes(s string, n int) string {
	if n >= len(s) {
		return s
	}
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

func castChar(c *call) error {
	s := c.text(0)
	if len(s) > 1 {
		s = s[:1]
	}
	return c.returnText(s)
}

func castBool(c *call) error {
	switch c.arg[0].Type() {
	case sqlite3.INTEGER:
		return c.returnBool(c.arg[0].Int64() != 0)
	case sqlite3.TEXT:
	default:
		return sqlstate.New(sqlstate.CannotCoerce, "cannot cast type %s to boolean", typeName(c.arg[0].Type()))
	}
	b, ok := parseBool(c.text(0))
	if !ok {
		return badText("boolean", c.text(0))
	}
	return c.returnBool(b)
}

// parseBool takes any unique beginning of true, false, yes, no, on, off, and 1 and 0.
func parseBool(s string) (value, ok bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	switch {
	case s == "":
		return false, false
	case s == "1", s == "on", strings.HasPrefix("true", s), strings.HasPrefix("yes", s):
		return true, true
	case s == "0", s == "off", s == "of", strings.HasPrefix("false", s), strings.HasPrefix("no", s):
		return false, true
	}
	return false, false
}

func byteaOut(b []byte) string { return `\x` + hex.EncodeToString(b) }

func castBytea(c *call) error {
	if c.arg[0].Type() == sqlite3.BLOB {
		return c.returnArg(0)
	}
	b, ok := parseBytea(c.text(0))
	if !ok {
		return badText("bytea", c.text(0))
	}
	return c.returnBlob(b)
}

// parseBytea reads the hex format \x… or the escape format.
func parseBytea(s string) ([]byte, bool) {
	if digits, ok := strings.CutPrefix(s, `\x`); ok {
		b, err := hex.DecodeString(strings.Map(dropSpace, digits))
		return b, err == nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\':
			out = append(out, s[i])
		case i+1 < len(s) && s[i+1] == '\\':
			out = append(out, '\\')
			i++
		case i+3 < len(s):
			n, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
			if err != nil {
				return nil, false
			}
			out = append(out, byte(n))
			i += 3
		default:
			return nil, false
		}
	}
	return out, true
}

func dropSpace(r rune) rune {
	if r == ' ' || r == '\n' || r == '\t' || r == '\r' {
		return -1
	}
	return r
}

func castUUID(c *call) error {
	s := strings.ToLower(strings.Trim(c.text(0), "{}"))
	digits := strings.ReplaceAll(s, "-", "")
	if _, err := hex.DecodeString(digits); err != nil || len(digits) != 32 {
		return badText("uuid", c.text(0))
	}
	return c.returnText(formatUUID(digits))
}

func formatUUID(digits string) string {
	return digits[:8] + "-" + digits[8:12] + "-" + digits[12:16] + "-" + digits[16:20] + "-" + digits[20:]
}

func castLSN(c *call) error {
	n, ok := parseLSN(c.text(0))
	if !ok {
		return badText("pg_lsn", c.text(0))
	}
	return c.returnText(formatLSN(n))
}

func parseLSN(s string) (uint64, bool) {
	high, low, ok := strings.Cut(s, "/")
	h, errH := strconv.ParseUint(high, 16, 32)
	l, errL := strconv.ParseUint(low, 16, 32)
	return h<<32 | l, ok && errH == nil && errL == nil
}

func formatLSN(n uint64) string {
	return strings.ToUpper(strconv.FormatUint(n>>32, 16) + "/" + strconv.FormatUint(n&0xffffffff, 16))
}

// objectName reads an identifier that may be qualified and quoted: the schema, "" when none, and
// the name in the case that PostgreSQL would give it.
func objectName(s string) (schema, name string) {
	parts := splitIdentifier(strings.TrimSpace(s))
	if len(parts) > 1 {
		schema = parts[len(parts)-2]
	}
	return schema, parts[len(parts)-1]
}

func splitIdentifier(s string) []string {
	var parts []string
	var b strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch ch := s[i]; {
		case ch == '"' && quoted && i+1 < len(s) && s[i+1] == '"':
			b.WriteByte('"')
			i++
		case ch == '"':
			quoted = !quoted
		case ch == '.' && !quoted:
			parts = append(parts, b.String())
			b.Reset()
		case !quoted && 'A' <= ch && ch <= 'Z':
			b.WriteByte(ch + 'a' - 'A')
		default:
			b.WriteByte(ch)
		}
	}
	return append(parts, b.String())
}

// number reads an OID given as such; false when the argument is a name.
func (c *call) number() (int64, bool) {
	if c.arg[0].Type() == sqlite3.INTEGER {
		return c.arg[0].Int64(), true
	}
	n, err := strconv.ParseUint(strings.TrimSpace(c.text(0)), 10, 32)
	return int64(n), err == nil
}

func castRegclass(c *call) error {
	if n, ok := c.number(); ok {
		return c.returnInt(n)
	}
	schemaName, name := objectName(c.text(0))
	s, err := c.loadSchema()
	if err != nil {
		return err
	}
	o, ok := s.relationOID(schemaName, name)
	if !ok {
		if schemaName != "" {
			name = schemaName + "." + name
		}
		return sqlstate.New(sqlstate.UndefinedTable, "relation \"%s\" does not exist", name)
	}
	return c.returnInt(int64(o))
}

func castRegtype(c *call) error {
	if n, ok := c.number(); ok {
		return c.returnInt(n)
	}
	s := c.text(0)
	name := strings.TrimPrefix(s, "pg_catalog.")
	// format_type's spellings have spaces, brackets and modifiers: they are no identifiers.
	if o, _ := oid.Declared(name); o != 0 {
		return c.returnInt(int64(o))
	}
	_, name = objectName(s)
	if t := typeByName(name); t != nil {
		return c.returnInt(int64(t.oid))
	}
	return sqlstate.New(sqlstate.UndefinedObject, "type \"%s\" does not exist", s)
}

func castRegproc(c *call) error {
	if n, ok := c.number(); ok {
		return c.returnInt(n)
	}
	name, _, _ := strings.Cut(c.text(0), "(")
	_, name = objectName(name)
	if o, ok := functionOID(name); ok {
		return c.returnInt(int64(o))
	}
	return sqlstate.New(sqlstate.UndefinedFunction, "function \"%s\" does not exist", c.text(0))
}

func castRegnamespace(c *call) error {
	if n, ok := c.number(); ok {
		return c.returnInt(n)
	}
	_, name := objectName(c.text(0))
	for _, n := range namespaces {
		if n.name == name {
			return c.returnInt(int64(n.oid))
		}
	}
	return sqlstate.New(sqlstate.InvalidSchemaName, "schema \"%s\" does not exist", name)
}

func castRegrole(c *call) error {
	if n, ok := c.number(); ok {
		return c.returnInt(n)
	}
	_, name := objectName(c.text(0))
	for _, r := range c.roles() {
		if r.Name == name {
			return c.returnInt(int64(c.roleOID(r.Name)))
		}
	}
	return sqlstate.New(sqlstate.UndefinedObject, "role \"%s\" does not exist", name)
}

// toReg makes to_regclass of ::regclass: what is unknown is NULL.
func toReg(cast func(*call) error) func(*call) error {
	return func(c *call) error {
		if err := cast(c); err != nil {
			if _, ok := err.(*sqlstate.Error); !ok {
				return err
			}
		}
		return nil
	}
}

func regclassOut(c *call) error {
	n, ok := c.number()
	if !ok {
		return c.returnText(c.text(0))
	}
	if n == 0 {
		return c.returnText("-")
	}
	s, err := c.loadSchema()
	if err != nil {
		return err
	}
	if name, ok := s.relationName(oid.OID(n)); ok {
		return c.returnText(quoteIdent(name))
	}
	return c.returnText(strconv.FormatInt(n, 10))
}

func regtypeOut(c *call) error {
	n, ok := c.number()
	if !ok {
		return c.returnText(c.text(0))
	}
	if n == 0 {
		return c.returnText("-")
	}
	if name := typeSpelling(oid.OID(n), -1); name != "???" {
		return c.returnText(name)
	}
	return c.returnText(strconv.FormatInt(n, 10))
}

func regprocOut(c *call) error {
	n, ok := c.number()
	if !ok {
		return c.returnText(c.text(0))
	}
	if n == 0 {
		return c.returnText("-")
	}
	if name, ok := functionName(oid.OID(n)); ok {
		return c.returnText(name)
	}
	return c.returnText(strconv.FormatInt(n, 10))
}

func regnamespaceOut(c *call) error {
	n, ok := c.number()
	if !ok {
		return c.returnText(c.text(0))
	}
	for _, s := range namespaces {
		if int64(s.oid) == n {
			return c.returnText(s.name)
		}
	}
	return c.returnText(strconv.FormatInt(n, 10))
}
