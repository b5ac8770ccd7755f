package pgcatalog

import (
	"skein/internal/oid"
)

// informationRelations are the views of information_schema, whose schema is spelled into the name.
func informationRelations() []relation {
	return []relation{
		{"information_schema_information_schema_catalog_name", 13221, "catalog_name name", func(b *rowBuilder) { b.add(b.sess().Database()) }},
		{"information_schema_schemata", 13392, "catalog_name name, schema_name name, schema_owner name, default_character_set_catalog name, default_character_set_schema name, default_character_set_name name, sql_path varchar", schemataRows},
		{"information_schema_tables", 13450, "table_catalog name, table_schema name, table_name name, table_type varchar, self_referencing_column_name name, reference_generation varchar, user_defined_type_catalog name, user_defined_type_schema name, user_defined_type_name name, is_insertable_into varchar, is_typed varchar, commit_action varchar", informationTableRows},
		{"information_schema_columns", 13275, informationColumnColumns, informationColumnRows},
		{"information_schema_views", 13493, "table_catalog name, table_schema name, table_name name, view_definition varchar, check_option varchar, is_updatable varchar, is_insertable_into varchar, is_trigger_updatable varchar, is_trigger_deletable varchar, is_trigger_insertable_into varchar", informationViewRows},
		{"information_schema_table_constraints", 13441, "constraint_catalog name, constraint_schema name, constraint_name name, table_catalog name, table_schema name, table_name name, constraint_type varchar, is_deferrable varchar, initially_deferred varchar, enforced varchar, nulls_distinct varchar", tableConstraintRows},
		{"information_schema_key_column_usage", 13320, "constraint_catalog name, constraint_schema name, constraint_name name, table_catalog name, table_schema name, table_name name, column_name name, ordinal_position int4, position_in_unique_constraint int4", keyColumnRows},
		{"information_schema_constraint_column_usage", 13285, "table_catalog name, table_schema name, table_name name, column_name name, constraint_catalog name, constraint_schema name, constraint_name name", constraintColumnRows},
		{"information_schema_constraint_table_usage", 13290, "table_catalog name, table_schema name, table_name name, constraint_catalog name, constraint_schema name, constraint_name name", constraintTableRows},
		{"information_schema_referential_constraints", 13345, "constraint_catalog name, constraint_schema name, constraint_name name, unique_constraint_catalog name, unique_constraint_schema name, unique_constraint_name name, match_option varchar, update_rule varchar, delete_rule varchar", referentialRows},
		{"information_schema_check_constraints", 13250, "constraint_catalog name, constraint_schema name, constraint_name name, check_clause varchar", checkConstraintRows},
		{"information_schema_sequences", 13400, "sequence_catalog name, sequence_schema name, sequence_name name, data_type varchar, numeric_precision int4, numeric_precision_radix int4, numeric_scale int4, start_value varchar, minimum_value varchar, maximum_value varchar, increment varchar, cycle_option varchar", informationSequenceRows},
		{"information_schema_routines", 13370, "specific_catalog name, specific_schema name, specific_name name, routine_catalog name, routine_schema name, routine_name name, routine_type varchar, data_type varchar, type_udt_catalog name, type_udt_schema name, type_udt_name name, routine_body varchar, routine_definition varchar, external_language varchar, is_deterministic varchar, security_type varchar", nil},
		{"information_schema_parameters", 13335, "specific_catalog name, specific_schema name, specific_name name, ordinal_position int4, parameter_mode varchar, parameter_name name, data_type varchar, udt_name name", nil},
		{"information_schema_triggers", 13470, "trigger_catalog name, trigger_schema name, trigger_name name, event_manipulation varchar, event_object_catalog name, event_object_schema name, event_object_table name, action_order int4, action_condition varchar, action_statement varchar, action_orientation varchar, action_timing varchar", nil},
		{"information_schema_domains", 13305, "domain_catalog name, domain_schema name, domain_name name, data_type varchar, character_maximum_length int4, numeric_precision int4, numeric_scale int4, domain_default varchar, udt_name name", nil},
		{"information_schema_element_types", 13311, "object_catalog name, object_schema name, object_name name, object_type varchar, collection_type_identifier name, data_type varchar, udt_name name", nil},
		{"information_schema_column_privileges", 13265, "grantor name, grantee name, table_catalog name, table_schema name, table_name name, column_name name, privilege_type varchar, is_grantable varchar", nil},
		{"information_schema_table_privileges", 13445, tablePrivilegeColumns, tablePrivilegeRows},
		{"information_schema_role_table_grants", 13380, tablePrivilegeColumns, tablePrivilegeRows},
		{"information_schema_enabled_roles", 13310, "role_name name", func(b *rowBuilder) { b.add(b.sess().User()) }},
		{"information_schema_applicable_roles", 13230, "grantee name, role_name name, is_grantable varchar", nil},
		{"information_schema_character_sets", 13240, "character_set_catalog name, character_set_schema name, character_set_name name, character_repertoire name, form_of_use name, default_collate_catalog name, default_collate_schema name, default_collate_name name", characterSetRows},
		{"information_schema_view_table_usage", 13488, "view_catalog name, view_schema name, view_name name, table_catalog name, table_schema name, table_name name", nil},
	}
}

const tablePrivilegeColumns = "grantor name, grantee name, table_catalog name, table_schema name, table_name name, privilege_type varchar, is_grantable varchar, with_hierarchy varchar"

const informationColumnColumns = "table_catalog name, table_schema name, table_name name, column_name name, ordinal_position int4, column_default varchar, is_nullable varchar, data_type varchar, character_maximum_length int4, character_octet_length int4, numeric_precision int4, numeric_precision_radix int4, numeric_scale int4, datetime_precision int4, interval_type varchar, interval_precision int4, character_set_catalog name, character_set_schema name, character_set_name name, collation_catalog name, collation_schema name, collation_name name, domain_catalog name, domain_schema name, domain_name name, udt_catalog name, udt_schema name, udt_name name, scope_catalog name, scope_schema name, scope_name name, maximum_cardinality int4, dtd_identifier name, is_self_referencing varchar, is_identity varchar, identity_generation varchar, identity_start varchar, identity_increment varchar, identity_maximum varchar, identity_minimum varchar, identity_cycle varchar, is_generated varchar, generation_expression varchar, is_updatable varchar"

func yesNo(b bool) string {
	if b {
		return "YES"
	}
	return "NO"
}

func schemataRows(b *rowBuilder) {
	for _, n := range namespaces {
		b.add(b.sess().Database(), n.name, b.roleName(n.owner), nil, nil, nil, nil)
	}
}

func informationTableRows(b *rowBuilder) {
	add := func(schemaName, name, kind string, writable bool) {
		b.add(b.sess().Database(), schemaName, name, kind, nil, nil, nil, nil, nil, yesNo(writable), "NO", nil)
	}
	for _, t := range b.schema.tables {
		kind := "BASE TABLE"
		switch {
		case t.kind == 'v':
			kind = "VIEW"
		case t.temp:
			kind = "LOCAL TEMPORARY"
		}
		add(t.schemaName(), t.name, kind, t.kind == 'r')
	}
	for i := range relations {
		r := &relations[i]
		kind := "BASE TABLE"
		if r.isView() {
			kind = "VIEW"
		}
		add(r.schemaName(), r.shownName(), kind, false)
	}
}

func (r *relation) schemaName() string {
	if r.isInformation() {
		return "information_schema"
	}
	return "pg_catalog"
}

func informationColumnRows(b *rowBuilder) {
	for _, t := range b.schema.tables {
		for _, c := range t.columns {
			b.informationColumn(t.schemaName(), t.name, c, t.kind == 'r')
		}
	}
	for i := range relations {
		r := &relations[i]
		for n, f := range r.fields() {
			b.informationColumn(r.schemaName(), r.shownName(), column{name: f.name, number: n + 1, typ: f.typ, mod: -1}, false)
		}
	}
}

func (b *rowBuilder) informationColumn(schemaName, tableName string, c column, updatable bool) {
	database := b.sess().Database()
	typ := typeSpelling(c.typ, -1)
	udt := ""
	if t := pgTypesByOID[c.typ]; t != nil {
		udt = t.name
		if t.category == 'A' && t.name[0] == '_' {
			typ = "ARRAY"
		}
	}
	length, octets := characterLimits(c)
	precision, radix, places := numericLimits(c)
	var fraction any
	switch c.typ {
	case oid.Timestamp, oid.Timestamptz, oid.Time, oid.TimeTZ, oid.Interval:
		fraction = 6
		if c.mod >= 0 {
			fraction = int(c.mod)
		}
	case oid.Date:
		fraction = 0
	}
	var def, expression any = optional(c.def), nil
	generated := "NEVER"
	if c.generated {
		generated, def, expression = "ALWAYS", nil, optional(c.def)
	}
	b.add(database, schemaName, tableName, c.name, c.number, def, yesNo(!c.notNull), typ, length, octets, precision, radix, places, fraction,
		nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, database, "pg_catalog", udt, nil, nil, nil, nil, oidText(int64(c.number)),
		"NO", "NO", nil, nil, nil, nil, nil, "NO", generated, expression, yesNo(updatable))
}

func characterLimits(c column) (length, octets any) {
	switch c.typ {
	case oid.Varchar, oid.Bpchar:
		if c.mod >= 4 {
			return int(c.mod - 4), 4 * int(c.mod-4)
		}
		return nil, 1 << 30
	case oid.Text:
		return nil, 1 << 30
	}
	return nil, nil
}

func numericLimits(c column) (precision, radix, places any) {
	switch c.typ {
	case oid.Int2:
		return 16, 2, 0
	case oid.Int4:
		return 32, 2, 0
	case oid.Int8:
		return 64, 2, 0
	case oid.Float4:
		return 24, 2, nil
	case oid.Float8:
		return 53, 2, nil
	case oid.Numeric:
		if c.mod >= 4 {
			return int((c.mod - 4) >> 16), 10, int((c.mod - 4) & 0x7ff)
		}
		return nil, 10, nil
	}
	return nil, nil, nil
}

func informationViewRows(b *rowBuilder) {
	for _, t := range b.schema.tables {
		if t.kind == 'v' {
			b.add(b.sess().Database(), t.schemaName(), t.name, t.viewText(), "NONE", "NO", "NO", "NO", "NO", "NO")
		}
	}
}

// eachConstraint visits every constraint of every table.
func (b *rowBuilder) eachConstraint(f func(t *table, k *tableConstraint)) {
	for _, t := range b.schema.tables {
		for i := range t.constraints {
			f(t, &t.constraints[i])
		}
	}
}

func tableConstraintRows(b *rowBuilder) {
	database := b.sess().Database()
	kinds := map[byte]string{'p': "PRIMARY KEY", 'u': "UNIQUE", 'f': "FOREIGN KEY", 'c': "CHECK"}
	b.eachConstraint(func(t *table, k *tableConstraint) {
		var distinct any
		if k.kind == 'u' {
			distinct = "YES"
		}
		b.add(database, t.schemaName(), k.name, database, t.schemaName(), t.name, kinds[k.kind], yesNo(k.deferrable), yesNo(k.deferred), "YES", distinct)
	})
	for _, t := range b.schema.tables {
		for _, c := range t.columns {
			if c.notNull { // PostgreSQL lists NOT NULL as a check, by a name made of numbers
				name := "2200_" + oidText(int64(t.oid)) + "_" + oidText(int64(c.number)) + "_not_null"
				b.add(database, t.schemaName(), name, database, t.schemaName(), t.name, "CHECK", "NO", "NO", "YES", nil)
			}
		}
	}
}

func keyColumnRows(b *rowBuilder) {
	database := b.sess().Database()
	b.eachConstraint(func(t *table, k *tableConstraint) {
		if k.kind == 'c' {
			return
		}
		for i, n := range k.keys {
			var position any
			if k.kind == 'f' {
				position = i + 1
			}
			b.add(database, t.schemaName(), k.name, database, t.schemaName(), t.name, t.columns[n-1].name, i+1, position)
		}
	})
}

func constraintColumnRows(b *rowBuilder) {
	database := b.sess().Database()
	b.eachConstraint(func(t *table, k *tableConstraint) {
		of, keys := t, k.keys
		if k.kind == 'f' {
			of, keys = k.target, k.refs
		}
		for _, n := range keys {
			if of != nil && n <= len(of.columns) {
				b.add(database, of.schemaName(), of.name, of.columns[n-1].name, database, t.schemaName(), k.name)
			}
		}
	})
}

func constraintTableRows(b *rowBuilder) {
	database := b.sess().Database()
	b.eachConstraint(func(t *table, k *tableConstraint) {
		of := t
		if k.kind == 'f' {
			of = k.target
		}
		if of != nil {
			b.add(database, of.schemaName(), of.name, database, t.schemaName(), k.name)
		}
	})
}

func referentialRows(b *rowBuilder) {
	database := b.sess().Database()
	rules := map[byte]string{'a': "NO ACTION", 'r': "RESTRICT", 'c': "CASCADE", 'n': "SET NULL", 'd': "SET DEFAULT"}
	b.eachConstraint(func(t *table, k *tableConstraint) {
		if k.kind != 'f' {
			return
		}
		var unique any
		if k.index != nil {
			unique = k.index.name
		}
		b.add(database, t.schemaName(), k.name, database, t.schemaName(), unique, "NONE", rules[k.onUpdate], rules[k.onDelete])
	})
}

func checkConstraintRows(b *rowBuilder) {
	b.eachConstraint(func(t *table, k *tableConstraint) {
		if k.kind == 'c' {
			b.add(b.sess().Database(), t.schemaName(), k.name, parenthesize(k.check))
		}
	})
}

func informationSequenceRows(b *rowBuilder) {
	for _, t := range b.schema.tables {
		if t.sequence == "" {
			continue
		}
		typ, last := t.serialType()
		bits := 64
		if typ == oid.Int4 {
			bits = 32
		}
		b.add(b.sess().Database(), t.schemaName(), t.sequence, typeSpelling(typ, -1), bits, 2, 0, "1", "1", oidText(last), "1", "NO")
	}
}

func tablePrivilegeRows(b *rowBuilder) {
	owner := b.bootstrapName()
	for _, t := range b.schema.tables {
		for _, privilege := range []string{"INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"} {
			b.add(owner, owner, b.sess().Database(), t.schemaName(), t.name, privilege, "YES", yesNo(privilege == "SELECT"))
		}
	}
}

func characterSetRows(b *rowBuilder) {
	b.add(nil, nil, "UTF8", "UCS", "UTF8", b.sess().Database(), "pg_catalog", "default")
}
