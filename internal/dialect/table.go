package dialect

import (
	"fmt"
	"strings"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// ConstraintKind says what a constraint demands.
type ConstraintKind int

// The kinds of constraints.
const (
	PrimaryKey ConstraintKind = iota + 1
	Unique
	Check
	ForeignKey
	NotNull
	Default   // a column's default value
	Generated // GENERATED ALWAYS AS (expression)
	Collate
)

// Constraint is a constraint of a table, or of one of its columns.
type Constraint struct {
	Name    string
	Kind    ConstraintKind
	Columns []string // of keys; of a column's constraint that column
	RefName string   // of a foreign key: the other table
	Text    string   // SQLite's text of it, without CONSTRAINT name and without the key's own columns
}

// Column is a column of a table.
type Column struct {
	Name        string
	Declared    string // the type as SQLite is told, "" for none
	Serial      bool   // numbered by SQLite: serial or identity
	Constraints []Constraint

	typ *typeName // as PostgreSQL was told, when that is known
}

// Table is a CREATE TABLE statement in SQLite's spelling.
type Table struct {
	Name        string
	Temp        bool
	IfNotExists bool
	Columns     []*Column
	Constraints []Constraint
	Options     string // WITHOUT ROWID, STRICT
}

// typeCheck is the prefix of the constraints that keep a column's values in its type.
const typeCheck = "skein_type_"

// serialKey names the primary key that a serial column needs in SQLite although the table has none.
const serialKey = "skein_serial"

func (t *Table) column(name string) *Column {
	for _, c := range t.Columns {
		if strings.EqualFold(c.Name, name) {
			return c
		}
	}
	return nil
}

func (c *Column) find(kind ConstraintKind) *Constraint {
	for i := range c.Constraints {
		if c.Constraints[i].Kind == kind {
			return &c.Constraints[i]
		}
	}
	return nil
}

// drop removes the column's constraints for which gone says so, and says whether there was one.
func dropConstraints(list []Constraint, gone func(*Constraint) bool) ([]Constraint, bool) {
	kept := list[:0:0]
	for i := range list {
		if !gone(&list[i]) {
			kept = append(kept, list[i])
		}
	}
	return kept, len(kept) < len(list)
}

// key is the table's primary key with the column that carries it, if it stands there.
func (t *Table) key() (*Column, *Constraint) {
	for _, c := range t.Columns {
		if k := c.find(PrimaryKey); k != nil {
			return c, k
		}
	}
	for i := range t.Constraints {
		if t.Constraints[i].Kind == PrimaryKey {
			return nil, &t.Constraints[i]
		}
	}
	return nil, nil
}

// String gives the CREATE TABLE text.
func (t *Table) String() string {
	var b strings.Builder
	b.WriteString("CREATE ")
	if t.Temp {
		b.WriteString("TEMP ")
	}
	b.WriteString("TABLE ")
	if t.IfNotExists {
		b.WriteString("IF NOT EXISTS ")
	}
	b.WriteString(quoteIdent(t.Name) + " (")
	for i, c := range t.Columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.String())
	}
	for i := range t.Constraints {
		b.WriteString(", " + t.Constraints[i].tableText())
	}
	b.WriteString(")")
	if t.Options != "" {
		b.WriteString(" " + t.Options)
	}
	return b.String()
}

// String gives the column's definition.
func (c *Column) String() string {
	s := quoteIdent(c.Name)
	if c.Declared != "" {
		s += " " + c.Declared
	}
	for i := range c.Constraints {
		k := &c.Constraints[i]
		s += " " + k.named()
		if k.Kind == PrimaryKey && c.Serial {
			s += " AUTOINCREMENT"
		}
	}
	return s
}

func (k *Constraint) named() string {
	if k.Name == "" {
		return k.Text
	}
	return "CONSTRAINT " + quoteIdent(k.Name) + " " + k.Text
}

// tableText gives the constraint as it stands after the columns.
func (k *Constraint) tableText() string {
	text := k.Text
	switch k.Kind {
	case PrimaryKey:
		text = "PRIMARY KEY (" + quoteList(k.Columns) + ")" + strings.TrimPrefix(text, "PRIMARY KEY")
	case Unique:
		text = "UNIQUE (" + quoteList(k.Columns) + ")" + strings.TrimPrefix(text, "UNIQUE")
	case ForeignKey:
		text = "FOREIGN KEY (" + quoteList(k.Columns) + ") " + text
	}
	if k.Name == "" {
		return text
	}
	return "CONSTRAINT " + quoteIdent(k.Name) + " " + text
}

// setType declares the column for SQLite and adds the check that keeps its values in the type. alias
// says that the column is the table's rowid.
func (c *Column) setType(t *typeName, alias bool) {
	c.typ = t
	c.Declared = declaration(t, alias)
	c.Constraints, _ = dropConstraints(c.Constraints, func(k *Constraint) bool {
		return k.Kind == Check && k.Name == typeCheck+c.Name || k.Kind == Collate && (k.Text == "COLLATE numeric" || k.Text == "COLLATE pg_lsn")
	})
	if by := valueCollation(t.typ.OID); by != "" && c.find(Collate) == nil {
		c.Constraints = append([]Constraint{{Kind: Collate, Text: by}}, c.Constraints...)
	}
	if check := valueCheck(quoteIdent(c.Name), t, alias); check != "" {
		c.Constraints = append(c.Constraints, Constraint{
			Name: typeCheck + c.Name, Kind: Check, Columns: []string{c.Name}, Text: "CHECK (" + check + ")",
		})
	}
}

// valueCollation compares values of a type that are kept as text which does not sort as they do; "" for
// every other type.
func valueCollation(t oid.OID) string {
	switch t {
	case oid.Numeric:
		return "COLLATE numeric"
	case oid.PgLSN:
		return "COLLATE pg_lsn"
	}
	return ""
}

// declaration spells a type so that SQLite's affinity does not change the values, and so that
// oid.Declared finds the type again.
func declaration(t *typeName, alias bool) string {
	args := ""
	if len(t.args) > 0 {
		args = "(" + strings.Join(t.args, ",") + ")"
	}
	switch o := t.typ.OID; {
	case alias && o == oid.Int8:
		return "INTEGER"
	case alias && isInteger(o):
		return "integer"
	case o == oid.Int4:
		// SQLite gives "integer" back as INTEGER, which stands for a rowid.
		return "int4"
	case o == oid.Int2 || o == oid.Int8 || o == oid.Bool || o == oid.Float4 || o == oid.Float8:
		return t.typ.SQLName
	case o == oid.Bpchar:
		return "char" + args
	case o == oid.Numeric:
		return "numeric_text" + args
	case o == oid.JSON || o == oid.JSONB || o == oid.Name || o == oid.Char || t.typ.Elem != 0:
		return t.typ.Name + "_text"
	}
	return t.typ.Name + args
}

func isInteger(o oid.OID) bool { return o == oid.Int2 || o == oid.Int4 || o == oid.Int8 }

// valueCheck is the condition under which a value is one of the type; "" for any value.
func valueCheck(c string, t *typeName, alias bool) string {
	limit := ""
	if len(t.args) > 0 {
		limit = t.args[0]
	}
	text := "typeof(" + c + ") IN ('text','null')"
	integer := "typeof(" + c + ") IN ('integer','null')"
	if alias {
		// SQLite itself refuses anything but an integer for a rowid.
		integer = ""
	}
	switch t.typ.OID {
	case oid.Int2:
		return and(integer, c+" BETWEEN -32768 AND 32767")
	case oid.Int4:
		return and(integer, c+" BETWEEN -2147483648 AND 2147483647")
	case oid.Int8:
		return integer
	case oid.OIDType, oid.XID, oid.Regclass, oid.Regtype, oid.Regproc:
		return and(integer, c+" BETWEEN 0 AND 4294967295")
	case oid.Bool:
		return c + " IN (0,1)"
	case oid.Float4, oid.Float8:
		return "typeof(" + c + ") IN ('real','integer','null')"
	case oid.Bytea:
		return "typeof(" + c + ") IN ('blob','null')"
	case oid.Varchar, oid.Bpchar:
		if limit == "" {
			return text
		}
		return and(text, "length("+c+") <= "+limit)
	case oid.Numeric:
		return and(text, numericCheck(c, t.args))
	case oid.JSON, oid.JSONB:
		return and(text, "json_valid("+c+")")
	case oid.UUID:
		return and(text, "length("+c+") = 36 AND "+c+" NOT GLOB '*[^-0-9a-f]*'")
	}
	return and(text, shapeCheck(c, t.typ))
}

// shapeCheck sees to it that dates and times are in the one form whose text order is their order.
func shapeCheck(c string, t *oid.Type) string {
	const (
		date = "*[0-9]-[0-9][0-9]-[0-9][0-9]"
		time = "[0-9][0-9]:[0-9][0-9]:[0-9][0-9]"
	)
	infinity := " OR " + c + " IN ('infinity','-infinity'))"
	switch t.OID {
	case oid.Date:
		return "(" + c + " GLOB '" + date + "' OR " + c + " GLOB '" + date + " BC'" + infinity
	case oid.Timestamp, oid.Timestamptz:
		return "(" + c + " GLOB '" + date + " " + time + "*' AND " + c + " NOT GLOB '*:*[-+Z]*'" + infinity
	case oid.Time:
		return c + " GLOB '" + time + "*' AND " + c + " NOT GLOB '*[-+Z]*'"
	}
	if t.Elem != 0 && t.OID != oid.Int2Vector && t.OID != oid.OIDVector {
		return "(" + c + " GLOB '{*}' OR " + c + " GLOB '[[]*]={*}')"
	}
	return ""
}

// numericCheck allows decimal digits, and only as many before the point as the precision does.
func numericCheck(c string, args []string) string {
	check := "(" + c + " NOT GLOB '*[^-0-9.]*' AND " + c + " GLOB '*[0-9]*' OR " + c + " IN ('NaN','Infinity','-Infinity'))"
	if len(args) == 0 {
		return check
	}
	var precision, scale int
	fmt.Sscan(args[0], &precision)
	if len(args) > 1 {
		fmt.Sscan(args[1], &scale)
	}
	return check + fmt.Sprintf(" AND abs(CAST(%s AS REAL)) < 1e%d", c, precision-scale)
}

func and(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + " AND " + b
}

// settle completes a table that was read from PostgreSQL's text: it names the constraints, decides
// which column is the rowid, and adds the type checks.
func (t *Table) settle() *sqlstate.Error {
	if err := t.settleKey(); err != nil {
		return err
	}
	alias := t.rowidColumn()
	for _, c := range t.Columns {
		if c.typ != nil && c.typ.typ != nil {
			c.setType(c.typ, c == alias)
		}
		if c.find(PrimaryKey) != nil && c.find(NotNull) == nil {
			c.Constraints = append(c.Constraints, Constraint{Kind: NotNull, Text: "NOT NULL"})
		}
	}
	t.nameConstraints()
	return nil
}

// settleKey moves a primary key of one column to its column, where AUTOINCREMENT can follow it, and
// gives a serial column of a table without a key one of its own.
func (t *Table) settleKey() *sqlstate.Error {
	on, key := t.key()
	if key != nil && on == nil {
		for _, name := range key.Columns {
			c := t.column(name)
			if c == nil {
				return sqlstate.New(sqlstate.UndefinedColumn, "column \"%s\" named in key does not exist", name)
			}
			if c.find(NotNull) == nil {
				c.Constraints = append(c.Constraints, Constraint{Kind: NotNull, Text: "NOT NULL"})
			}
		}
		if len(key.Columns) == 1 {
			on = t.column(key.Columns[0])
			moved := *key
			t.Constraints, _ = dropConstraints(t.Constraints, func(k *Constraint) bool { return k == key || k.Kind == PrimaryKey })
			on.Constraints = append([]Constraint{moved}, on.Constraints...)
		}
	}
	for _, c := range t.Columns {
		if !c.Serial || c == on {
			continue
		}
		if key != nil || on != nil {
			return sqlstate.New(sqlstate.FeatureNotSupported, "serial column \"%s\" must be the primary key", c.Name).
				WithHint("Make it the table's one primary-key column, or number the rows in the application.")
		}
		on = c
		c.Constraints = append([]Constraint{{Name: serialKey, Kind: PrimaryKey, Columns: []string{c.Name}, Text: "PRIMARY KEY"}}, c.Constraints...)
	}
	if on != nil && on.Serial && strings.Contains(t.Options, "WITHOUT ROWID") {
		return sqlstate.New(sqlstate.FeatureNotSupported, "a serial column in a table WITHOUT ROWID is not supported")
	}
	return nil
}

// rowidColumn is the column that stands for SQLite's rowid, or nil.
func (t *Table) rowidColumn() *Column {
	c, key := t.key()
	if key == nil || c == nil || strings.Contains(t.Options, "WITHOUT ROWID") || strings.Contains(key.Text, "DESC") {
		return nil
	}
	if c.typ != nil && c.typ.typ != nil && isInteger(c.typ.typ.OID) || c.typ == nil && strings.EqualFold(c.Declared, "integer") {
		return c
	}
	return nil
}

// nameConstraints gives the constraints that have no name those that PostgreSQL would give them.
func (t *Table) nameConstraints() {
	taken := map[string]bool{}
	t.eachConstraint(func(k *Constraint) { taken[k.Name] = true })
	t.eachConstraint(func(k *Constraint) {
		if k.Name == "" {
			k.Name = t.generatedName(k, taken)
			taken[k.Name] = true
		}
	})
}

func (t *Table) eachConstraint(visit func(*Constraint)) {
	for _, c := range t.Columns {
		for i := range c.Constraints {
			visit(&c.Constraints[i])
		}
	}
	for i := range t.Constraints {
		visit(&t.Constraints[i])
	}
}

func (t *Table) generatedName(k *Constraint, taken map[string]bool) string {
	suffix := ""
	switch k.Kind {
	case PrimaryKey:
		return t.Name + "_pkey"
	case Unique:
		suffix = "key"
	case ForeignKey:
		suffix = "fkey"
	case Check:
		suffix = "check"
	default:
		return ""
	}
	return generatedName(t.Name, k.Columns, suffix, taken)
}

// generatedName builds table_columns_suffix, numbered if that is taken, in at most 63 bytes.
func generatedName(table string, columns []string, suffix string, taken map[string]bool) string {
	middle := ""
	if len(columns) > 0 {
		middle = "_" + strings.Join(columns, "_")
	}
	for n := 0; ; n++ {
		end := "_" + suffix
		if n > 0 {
			end = fmt.Sprintf("_%s%d", suffix, n)
		}
		head := table + middle
		if len(head)+len(end) > 63 {
			head = strings.ToValidUTF8(head[:63-len(end)], "")
		}
		if name := head + end; !taken[name] {
			return name
		}
	}
}

// Create gives the CREATE TABLE text for the query's columns, by name and type.
func (s *CreateAsStmt) Create(names []string, types []ParamType) (string, error) {
	t := &Table{Name: s.Table, Temp: s.Temp, IfNotExists: s.IfNotExists}
	seen := map[string]bool{}
	if len(s.Columns) > len(names) {
		return "", sqlstate.New(sqlstate.SyntaxError, "too many column names were specified")
	}
	for i, name := range names {
		if i < len(s.Columns) {
			name = s.Columns[i]
		}
		if seen[name] {
			return "", sqlstate.New(sqlstate.DuplicateColumn, "column \"%s\" specified more than once", name)
		}
		seen[name] = true
		c := &Column{Name: name}
		if i < len(types) {
			if typ := oid.ByOID(types[i].OID); typ != nil {
				c.typ = &typeName{typ: typ, mod: types[i].Mod, args: modifierArgs(typ.OID, types[i].Mod)}
			}
		}
		t.Columns = append(t.Columns, c)
	}
	if err := t.settle(); err != nil {
		return "", err
	}
	return t.String(), nil
}

// modifierArgs spells a modifier as the arguments that make it.
func modifierArgs(o oid.OID, mod int32) []string {
	format := oid.Format(o, mod)
	i := strings.IndexByte(format, '(')
	j := strings.IndexByte(format, ')')
	if mod < 0 || i < 0 || j < i {
		return nil
	}
	return strings.Split(format[i+1:j], ",")
}
