package pgcatalog

import (
	"strings"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// definitionFunctions describe catalog objects by OID.
func definitionFunctions() []function {
	visible := func(name string) function { return function{name, 1, 1, 0, isVisible} }
	list := []function{
		{"format_type", 2, 2, nullable, formatType},
		{"pg_typeof", 1, 1, pure | nullable, typeOf},
		{"pg_get_expr", 2, 3, 0, func(c *call) error { return c.returnArg(0) }},
		{"pg_get_indexdef", 1, 3, 0, getIndexDef},
		{"pg_get_constraintdef", 1, 2, 0, getConstraintDef},
		{"pg_get_viewdef", 1, 2, 0, getViewDef},
		{"pg_get_triggerdef", 1, 2, 0, always(nil)},
		{"pg_get_ruledef", 1, 2, 0, always(nil)},
		{"pg_get_functiondef", 1, 1, 0, always(nil)},
		{"pg_get_function_result", 1, 1, 0, always("text")},
		{"pg_get_function_sqlbody", 1, 1, 0, always(nil)},
		{"pg_get_function_arg_default", 2, 2, 0, always(nil)},
		{"pg_get_function_arguments", 1, 1, 0, always("")},
		{"pg_get_function_identity_arguments", 1, 1, 0, always("")},
		{"pg_get_partkeydef", 1, 1, 0, always(nil)},
		{"pg_get_partition_constraintdef", 1, 1, 0, always(nil)},
		{"pg_get_statisticsobjdef", 1, 1, 0, always(nil)},
		{"pg_get_statisticsobjdef_columns", 1, 1, 0, always(nil)},
		{"pg_partition_ancestors", 1, 1, 0, always(nil)}, // in a select list; in FROM see rowFunctions
		{"pg_partition_root", 1, 1, 0, always(nil)},
		{"pg_get_serial_sequence", 2, 2, 0, getSerialSequence},
		{"pg_get_userbyid", 1, 1, 0, getUserByID},
		{"pg_relation_is_publishable", 1, 1, 0, always(false)},
		{"pg_relation_is_updatable", 2, 2, 0, always(28)},
		{"pg_column_is_updatable", 3, 3, 0, always(true)},
		{"pg_table_is_visible", 1, 1, 0, tableIsVisible},
		{"obj_description", 1, 2, nullable, always(nil)},
		{"col_description", 2, 2, nullable, always(nil)},
		{"shobj_description", 2, 2, nullable, always(nil)},
		{"pg_describe_object", 3, 3, nullable, always(nil)},
		{"pg_index_column_has_property", 3, 3, 0, always(nil)},
		{"pg_indexam_has_property", 2, 2, 0, always(nil)},
		{"pg_column_size", 1, 1, 0, func(c *call) error { return c.returnInt(int64(len(c.bytes(0)))) }},
		{"_pg_char_max_length", 2, 2, nullable, always(nil)},
	}
	for _, name := range []string{"type", "function", "operator", "opclass", "opfamily", "collation", "conversion", "statistics_obj", "ts_parser", "ts_dict", "ts_template", "ts_config"} {
		list = append(list, visible("pg_"+name+"_is_visible"))
	}
	return list
}

// isVisible: every object that is not a table is in pg_catalog, which is always on the path.
func isVisible(c *call) error { return c.returnBool(true) }

func tableIsVisible(c *call) error {
	n, ok := c.number()
	if !ok {
		return badText("oid", c.text(0))
	}
	s, err := c.loadSchema()
	if err != nil {
		return err
	}
	if _, ok := s.relations[oid.OID(n)]; ok {
		return c.returnBool(true)
	}
	if r := relationByOID(oid.OID(n)); r != nil {
		return c.returnBool(!r.isInformation())
	}
	return nil
}

func formatType(c *call) error {
	if c.isNull(0) {
		return nil
	}
	o, err := c.int(0)
	if err != nil {
		return err
	}
	mod, err := c.intOr(1, -1)
	if err != nil {
		return err
	}
	if o == 0 {
		return c.returnText("-")
	}
	return c.returnText(typeSpelling(oid.OID(o), int32(min(max(mod, -1), 1<<31-1))))
}

// typeOf tells the type by the value, which is all that a function sees.
func typeOf(c *call) error {
	switch c.arg[0].Type() {
	case sqlite3.INTEGER:
		if n := c.arg[0].Int64(); n < -1<<31 || n > 1<<31-1 {
			return c.returnText("bigint")
		}
		return c.returnText("integer")
	case sqlite3.TEXT:
		return c.returnText("text")
	case sqlite3.NULL:
		return c.returnText("unknown")
	}
	return c.returnText(typeName(c.arg[0].Type()))
}

func getIndexDef(c *call) error {
	n, _ := c.number()
	s, err := c.loadSchema()
	if err != nil {
		return err
	}
	ref := s.relations[oid.OID(n)]
	if ref.index == nil {
		return nil
	}
	number, err := c.intOr(1, 0)
	if err != nil {
		return err
	}
	switch {
	case number == 0:
		pretty := len(c.arg) > 2 && c.arg[2].Bool()
		return c.returnText(ref.index.definition(!pretty))
	case number > 0 && int(number) <= len(ref.index.items):
		return c.returnText(ref.index.key(int(number) - 1))
	}
	return c.returnText("")
}

func getConstraintDef(c *call) error {
	n, _ := c.number()
	s, err := c.loadSchema()
	if err != nil {
		return err
	}
	t, k := s.constraintByOID(oid.OID(n))
	if k == nil {
		return nil
	}
	def := k.definition(t)
	if pretty := len(c.arg) > 1 && c.arg[1].Bool(); pretty && k.kind == 'c' {
		def = "CHECK " + parenthesize(k.check)
	}
	return c.returnText(def)
}

func getViewDef(c *call) error {
	s, err := c.loadSchema()
	if err != nil {
		return err
	}
	n, ok := c.number()
	if !ok {
		o, found := s.relationOID(objectName(c.text(0)))
		if !found {
			return sqlstate.New(sqlstate.UndefinedTable, "relation \"%s\" does not exist", c.text(0))
		}
		n = int64(o)
	}
	ref := s.relations[oid.OID(n)]
	if ref.kind != 'v' {
		return nil
	}
	return c.returnText(ref.table.viewText())
}

func getSerialSequence(c *call) error {
	s, err := c.loadSchema()
	if err != nil {
		return err
	}
	_, name := objectName(c.text(0))
	t := s.tableNames[strings.ToLower(name)]
	if t == nil {
		return sqlstate.New(sqlstate.UndefinedTable, "relation \"%s\" does not exist", name)
	}
	n := t.columnNumber(c.text(1))
	if n == 0 {
		return sqlstate.New(sqlstate.UndefinedColumn, "column \"%s\" of relation \"%s\" does not exist", c.text(1), name)
	}
	if !t.columns[n-1].serial {
		return nil
	}
	return c.returnText(t.schemaName() + "." + quoteIdent(t.sequence))
}

func getUserByID(c *call) error {
	n, err := c.int(0)
	if err != nil {
		return err
	}
	return c.returnText(c.roleName(oid.OID(n)))
}

// reserved are PostgreSQL's words that cannot name a table or column without quotes.
var reserved = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(`all analyse analyze and any array as asc asymmetric both case cast check collate column
		constraint create current_catalog current_date current_role current_time current_timestamp current_user default
		deferrable desc distinct do else end except false fetch for foreign from grant group having in initially intersect
		into lateral leading limit localtime localtimestamp not null offset on only or order placing primary references
		returning select session_user some symmetric table then to trailing true union unique user using variadic when where
		window with authorization binary collation concurrently cross current_schema freeze full ilike inner is isnull join
		left like natural notnull outer overlaps right similar tablesample verbose between bigint bit boolean char character
		coalesce dec decimal exists extract float greatest grouping inout int integer interval least national nchar none
		normalize nullif numeric out overlay position precision real row setof smallint substring time timestamp treat trim
		values varchar xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot
		xmlserialize xmltable`) {
		m[w] = true
	}
	return m
}()
