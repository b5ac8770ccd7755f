package dialect

import (
	"strings"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// TableEdit is what one ALTER TABLE changes. Parse leaves it to the engine to read the table's text,
// make the new table with EditTable, fill it with CopyRows, and put it in the old one's place.
type TableEdit struct {
	Table    string
	IfExists bool // ALTER TABLE IF EXISTS
	Changes  []Change
}

// ChangeOp says what a Change does.
type ChangeOp int

// The changes of a table.
const (
	AddColumn ChangeOp = iota + 1
	DropColumn
	AlterType
	SetDefault
	DropDefault
	SetNotNull
	DropNotNull
	AddConstraint
	DropConstraint
	RenameConstraint
)

// Change is one action of an ALTER TABLE.
type Change struct {
	Op       ChangeOp
	Column   string // the column that is changed
	Name     string // the constraint that is dropped or renamed
	NewName  string // its new name
	IfExists bool   // IF EXISTS, or IF NOT EXISTS for AddColumn

	column     *Column
	constraint Constraint
	typ        *typeName
	expr       string // the default, or the expression of USING
	value      *expr
}

// EditTable applies a change that SQLite's ALTER TABLE lacks to a table's CREATE TABLE text, and
// gives the new text under newName; "" when nothing is to be done because of IF [NOT] EXISTS.
func EditTable(createSQL, newName string, edit *TableEdit) (string, error) {
	t, err := ParseTable(createSQL)
	if err != nil {
		return "", err
	}
	changed := false
	for i := range edit.Changes {
		did, err := t.apply(&edit.Changes[i])
		if err != nil {
			return "", err
		}
		changed = changed || did
	}
	if !changed {
		return "", nil
	}
	if err := t.check(); err != nil {
		return "", err
	}
	if err := t.resettle(); err != nil {
		return "", err
	}
	t.Name = newName
	return t.String(), nil
}

// CopyRows gives the INSERT that fills the table that EditTable made from the old one, which is
// called edit.Table.
func CopyRows(createSQL, newName string, edit *TableEdit) (string, error) {
	t, err := ParseTable(createSQL)
	if err != nil {
		return "", err
	}
	gone := map[string]bool{}
	values := map[string]string{}
	for i := range edit.Changes {
		switch c := &edit.Changes[i]; c.Op {
		case DropColumn:
			gone[asciiLower(c.Column)] = true
		case AlterType:
			values[asciiLower(c.Column)] = c.conversion()
		}
	}
	var into, from []string
	for _, c := range t.Columns {
		name := asciiLower(c.Name)
		if gone[name] || c.find(Generated) != nil {
			continue
		}
		into = append(into, quoteIdent(c.Name))
		value := quoteIdent(c.Name)
		if v := values[name]; v != "" {
			value = v
		}
		from = append(from, value)
	}
	if len(into) == 0 {
		return "", sqlstate.New(sqlstate.FeatureNotSupported, "a table without columns is not supported")
	}
	return "INSERT INTO " + quoteIdent(newName) + " (" + strings.Join(into, ", ") + ") SELECT " +
		strings.Join(from, ", ") + " FROM " + quoteIdent(edit.Table), nil
}

// conversion is the value of a column under its new type. A string is not cast to a shorter one,
// because a cast would cut it where PostgreSQL complains; the new table's check does that.
func (c *Change) conversion() string {
	if c.expr != "" {
		return c.expr
	}
	column := quoteIdent(c.Column)
	if o := c.typ.typ.OID; o == oid.Varchar || o == oid.Bpchar {
		return "cast_text(" + column + ")"
	}
	return c.typ.castName() + "(" + column + c.typ.castArgs() + ")"
}

// KeepsIndex says whether an index, by its CREATE INDEX text, can be made again after the edit: not
// if it uses a column that is dropped.
func (e *TableEdit) KeepsIndex(createIndex string) bool {
	toks, err := tokenize(createIndex)
	if err != nil {
		return true
	}
	for i := range e.Changes {
		c := &e.Changes[i]
		if c.Op != DropColumn {
			continue
		}
		inside := false
		for k := range toks {
			inside = inside || toks[k].is("(")
			if inside && toks[k].name() && strings.EqualFold(toks[k].word, c.Column) {
				return false
			}
		}
	}
	return true
}

// NameIndex gives an index another name, by its CREATE INDEX text as SQLite keeps it.
func NameIndex(createIndex, name string) string {
	toks, err := tokenize(createIndex)
	if err != nil {
		return createIndex
	}
	for i := range toks[:len(toks)-1] {
		if toks[i].is("index") {
			return createIndex[:toks[i+1].pos] + quoteIdent(name) + createIndex[toks[i+1].end:]
		}
	}
	return createIndex
}

// apply makes one change and says whether anything changed.
func (t *Table) apply(c *Change) (bool, error) {
	switch c.Op {
	case AddColumn:
		return t.addColumn(c)
	case AddConstraint:
		return true, t.addConstraint(c)
	case DropConstraint:
		return t.dropConstraint(c)
	case RenameConstraint:
		return t.renameConstraint(c)
	}
	column := t.column(c.Column)
	if column == nil {
		if c.Op == DropColumn && c.IfExists {
			return false, nil
		}
		return false, t.noColumn(c.Column)
	}
	t.alterColumn(column, c)
	return true, nil
}

func (t *Table) noColumn(name string) error {
	return sqlstate.New(sqlstate.UndefinedColumn, "column \"%s\" of relation \"%s\" does not exist", name, t.Name)
}

func (t *Table) alterColumn(column *Column, c *Change) {
	switch c.Op {
	case DropColumn:
		t.dropColumn(column)
	case AlterType:
		column.setType(c.typ, false)
	case SetDefault, DropDefault:
		column.without(Default)
		if c.Op == SetDefault {
			text := "DEFAULT " + defaultText(c.value, typeOf(column), c.expr)
			column.Constraints = append(column.Constraints, Constraint{Kind: Default, Text: text})
		}
	case SetNotNull, DropNotNull:
		column.without(NotNull)
		if c.Op == SetNotNull {
			column.Constraints = append(column.Constraints, Constraint{Kind: NotNull, Text: "NOT NULL"})
		}
	}
}

// without removes the column's constraints of a kind.
func (c *Column) without(kind ConstraintKind) {
	c.Constraints, _ = dropConstraints(c.Constraints, func(k *Constraint) bool { return k.Kind == kind })
}

// typeOf is the column's type; nil when it is none of PostgreSQL's.
func typeOf(c *Column) *typeName {
	if c.typ != nil {
		return c.typ
	}
	o, mod := c.Type()
	typ := oid.ByOID(o)
	if typ == nil {
		return nil
	}
	return &typeName{typ: typ, mod: mod, args: modifierArgs(o, mod)}
}

// Type reads the column's declaration as a type and its modifier, 0 when it is none of PostgreSQL's.
// It knows more than oid.Declared does from SQLite's column type, which is INTEGER for any rowid: the
// text of CREATE TABLE has a bigint key in upper case and the smaller ones in lower case.
func (c *Column) Type() (oid.OID, int32) {
	if c.Declared == "integer" {
		return oid.Int4, -1
	}
	return oid.Declared(c.Declared)
}

// Column finds a column by name, in any case; nil if there is none.
func (t *Table) Column(name string) *Column { return t.column(name) }

func (t *Table) addColumn(c *Change) (bool, error) {
	if t.column(c.column.Name) != nil {
		if c.IfExists {
			return false, nil
		}
		return false, sqlstate.New(sqlstate.DuplicateColumn, "column \"%s\" of relation \"%s\" already exists", c.column.Name, t.Name)
	}
	copied := *c.column
	copied.Constraints = append([]Constraint(nil), c.column.Constraints...)
	if copied.typ != nil && copied.typ.typ != nil {
		copied.setType(copied.typ, false)
	}
	t.Columns = append(t.Columns, &copied)
	return true, nil
}

// dropColumn removes the column and the constraints that mention it.
func (t *Table) dropColumn(column *Column) {
	kept := t.Columns[:0:0]
	for _, c := range t.Columns {
		if c != column {
			kept = append(kept, c)
		}
	}
	t.Columns = kept
	t.Constraints, _ = dropConstraints(t.Constraints, func(k *Constraint) bool { return k.uses(column.Name) })
}

// uses says whether a table's constraint mentions the column.
func (k *Constraint) uses(column string) bool {
	for _, c := range k.Columns {
		if strings.EqualFold(c, column) {
			return true
		}
	}
	if k.Kind != Check {
		return false
	}
	toks, err := tokenize(k.Text)
	if err != nil {
		return false
	}
	for i := range toks {
		if toks[i].name() && strings.EqualFold(toks[i].word, column) {
			return true
		}
	}
	return false
}

func (t *Table) addConstraint(c *Change) error {
	k := c.constraint
	for _, name := range k.Columns {
		if k.Kind != Check && t.column(name) == nil {
			return sqlstate.New(sqlstate.UndefinedColumn, "column \"%s\" named in key does not exist", name)
		}
	}
	if k.Kind == PrimaryKey {
		t.dropSerialKey()
		if _, key := t.key(); key != nil {
			return sqlstate.New(sqlstate.InvalidTableDefinition, "multiple primary keys for table \"%s\" are not allowed", t.Name)
		}
	}
	duplicate := false
	t.eachConstraint(func(other *Constraint) { duplicate = duplicate || k.Name != "" && other.Name == k.Name })
	if duplicate {
		return sqlstate.New(sqlstate.DuplicateObject, "constraint \"%s\" for relation \"%s\" already exists", k.Name, t.Name)
	}
	t.Constraints = append(t.Constraints, k)
	return nil
}

// dropSerialKey takes away the key that only served to number a serial column.
func (t *Table) dropSerialKey() {
	for _, c := range t.Columns {
		c.Constraints, _ = dropConstraints(c.Constraints, func(k *Constraint) bool { return k.Name == serialKey })
	}
}

func (t *Table) dropConstraint(c *Change) (bool, error) {
	gone := func(k *Constraint) bool { return k.Name != "" && k.Name == c.Name }
	dropped := false
	for _, column := range t.Columns {
		var did bool
		column.Constraints, did = dropConstraints(column.Constraints, gone)
		dropped = dropped || did
	}
	var did bool
	t.Constraints, did = dropConstraints(t.Constraints, gone)
	if !dropped && !did {
		if c.IfExists {
			return false, nil
		}
		return false, t.noConstraint(c.Name)
	}
	return true, nil
}

func (t *Table) noConstraint(name string) error {
	return sqlstate.New(sqlstate.UndefinedObject, "constraint \"%s\" of relation \"%s\" does not exist", name, t.Name)
}

func (t *Table) renameConstraint(c *Change) (bool, error) {
	found := false
	t.eachConstraint(func(k *Constraint) {
		if k.Name != "" && k.Name == c.Name {
			k.Name, found = c.NewName, true
		}
	})
	if !found {
		return false, t.noConstraint(c.Name)
	}
	return true, nil
}

// resettle decides anew which column is the rowid and names the constraints that were added. Types
// that PostgreSQL does not know stay as they are.
func (t *Table) resettle() error {
	if err := t.settleKey(); err != nil {
		return err
	}
	alias := t.rowidColumn()
	for _, c := range t.Columns {
		typ := typeOf(c)
		checked := c.typ != nil
		for i := range c.Constraints {
			checked = checked || c.Constraints[i].Name == typeCheck+c.Name
		}
		isAlias := c == alias || alias == nil && typ != nil && isInteger(typ.typ.OID) && t.carriesKey(c)
		if typ != nil && (checked || isAlias) {
			c.setType(typ, isAlias)
		}
		if c.find(PrimaryKey) != nil && c.find(NotNull) == nil {
			c.Constraints = append(c.Constraints, Constraint{Kind: NotNull, Text: "NOT NULL"})
		}
	}
	t.nameConstraints()
	return nil
}

// carriesKey says whether the column is the one column of the table's key.
func (t *Table) carriesKey(c *Column) bool {
	on, key := t.key()
	return key != nil && on == c && !strings.Contains(t.Options, "WITHOUT ROWID") && !strings.Contains(key.Text, "DESC")
}
