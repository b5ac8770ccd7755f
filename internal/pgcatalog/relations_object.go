package pgcatalog

import (
	"strconv"
	"strings"

	"skein/internal/oid"
)

// objectRelations describe what is inside one database: the user's tables and the catalog itself.
func objectRelations() []relation {
	return []relation{
		{"pg_namespace", 2615, "oid oid, nspname name, nspowner oid, nspacl _aclitem", namespaceRows},
		{"pg_class", 1259, "oid oid, relname name, relnamespace oid, reltype oid, reloftype oid, relowner oid, relam oid, relfilenode oid, reltablespace oid, relpages int4, reltuples float4, relallvisible int4, reltoastrelid oid, relhasindex bool, relisshared bool, relpersistence \"char\", relkind \"char\", relnatts int2, relchecks int2, relhasrules bool, relhastriggers bool, relhassubclass bool, relrowsecurity bool, relforcerowsecurity bool, relispopulated bool, relreplident \"char\", relispartition bool, relrewrite oid, relfrozenxid xid, relminmxid xid, relacl _aclitem, reloptions _text, relpartbound pg_node_tree", classRows},
		{"pg_attribute", 1249, "attrelid oid, attname name, atttypid oid, attstattarget int4, attlen int2, attnum int2, attndims int4, attcacheoff int4, atttypmod int4, attbyval bool, attalign \"char\", attstorage \"char\", attcompression \"char\", attnotnull bool, atthasdef bool, atthasmissing bool, attidentity \"char\", attgenerated \"char\", attisdropped bool, attislocal bool, attinhcount int4, attcollation oid, attacl _aclitem, attoptions _text, attfdwoptions _text, attmissingval text", attributeRows},
		{"pg_attrdef", 2604, "oid oid, adrelid oid, adnum int2, adbin pg_node_tree", attrdefRows},
		{"pg_index", 2610, "indexrelid oid, indrelid oid, indnatts int2, indnkeyatts int2, indisunique bool, indnullsnotdistinct bool, indisprimary bool, indisexclusion bool, indimmediate bool, indisclustered bool, indisvalid bool, indcheckxmin bool, indisready bool, indislive bool, indisreplident bool, indkey int2vector, indcollation oidvector, indclass oidvector, indoption int2vector, indexprs pg_node_tree, indpred pg_node_tree", indexRows},
		{"pg_constraint", 2606, "oid oid, conname name, connamespace oid, contype \"char\", condeferrable bool, condeferred bool, convalidated bool, conrelid oid, contypid oid, conindid oid, conparentid oid, confrelid oid, confupdtype \"char\", confdeltype \"char\", confmatchtype \"char\", conislocal bool, coninhcount int4, connoinherit bool, conkey _int2, confkey _int2, conpfeqop _oid, conppeqop _oid, conffeqop _oid, confdelsetcols _int2, conexclop _oid, conbin pg_node_tree", constraintRows},
		{"pg_type", 1247, "oid oid, typname name, typnamespace oid, typowner oid, typlen int2, typbyval bool, typtype \"char\", typcategory \"char\", typispreferred bool, typisdefined bool, typdelim \"char\", typrelid oid, typsubscript regproc, typelem oid, typarray oid, typinput regproc, typoutput regproc, typreceive regproc, typsend regproc, typmodin regproc, typmodout regproc, typanalyze regproc, typalign \"char\", typstorage \"char\", typnotnull bool, typbasetype oid, typtypmod int4, typndims int4, typcollation oid, typdefaultbin pg_node_tree, typdefault text, typacl _aclitem", typeRows},
		{"pg_range", 3541, "rngtypid oid, rngsubtype oid, rngmultitypid oid, rngcollation oid, rngsubopc oid, rngcanonical regproc, rngsubdiff regproc", rangeRows},
		{"pg_am", 2601, "oid oid, amname name, amhandler regproc, amtype \"char\"", accessMethodRows},
		{"pg_opclass", 2616, "oid oid, opcmethod oid, opcname name, opcnamespace oid, opcowner oid, opcfamily oid, opcintype oid, opcdefault bool, opckeytype oid", nil},
		{"pg_collation", 3456, "oid oid, collname name, collnamespace oid, collowner oid, collprovider \"char\", collisdeterministic bool, collencoding int4, collcollate text, collctype text, colliculocale text, collversion text", collationRows},
		{"pg_sequence", 2224, "seqrelid oid, seqtypid oid, seqstart int8, seqincrement int8, seqmax int8, seqmin int8, seqcache int8, seqcycle bool", sequenceRows},
		{"pg_trigger", 2620, "oid oid, tgrelid oid, tgparentid oid, tgname name, tgfoid oid, tgtype int2, tgenabled \"char\", tgisinternal bool, tgconstrrelid oid, tgconstrindid oid, tgconstraint oid, tgdeferrable bool, tginitdeferred bool, tgnargs int2, tgattr int2vector, tgargs bytea, tgqual pg_node_tree, tgoldtable name, tgnewtable name", triggerRows},
		{"pg_proc", 1255, "oid oid, proname name, pronamespace oid, proowner oid, prolang oid, procost float4, prorows float4, provariadic oid, prosupport regproc, prokind \"char\", prosecdef bool, proleakproof bool, proisstrict bool, proretset bool, provolatile \"char\", proparallel \"char\", pronargs int2, pronargdefaults int2, prorettype oid, proargtypes oidvector, proallargtypes _oid, proargmodes _char, proargnames _text, proargdefaults pg_node_tree, protrftypes _oid, prosrc text, probin text, prosqlbody pg_node_tree, proconfig _text, proacl _aclitem", procRows},
		{"pg_language", 2612, "oid oid, lanname name, lanowner oid, lanispl bool, lanpltrusted bool, lanplcallfoid oid, laninline oid, lanvalidator oid, lanacl _aclitem", languageRows},
		{"pg_extension", 3079, "oid oid, extname name, extowner oid, extnamespace oid, extrelocatable bool, extversion text, extconfig _oid, extcondition _text", nil},
		{"pg_tables", 12035, "schemaname name, tablename name, tableowner name, tablespace name, hasindexes bool, hasrules bool, hastriggers bool, rowsecurity bool", tablesRows},
		{"pg_views", 12030, "schemaname name, viewname name, viewowner name, definition text", viewsRows},
		{"pg_indexes", 12045, "schemaname name, tablename name, indexname name, tablespace name, indexdef text", indexesRows},
		{"pg_sequences", 12050, "schemaname name, sequencename name, sequenceowner name, data_type regtype, start_value int8, min_value int8, max_value int8, increment_by int8, cycle bool, cache_size int8, last_value int8", sequencesRows},
		{"pg_stat_all_tables", 12140, statTableColumns, statTableRows},
		{"pg_stat_user_tables", 12153, statTableColumns, statTableRows},
		{"pg_stat_user_indexes", 12180, "relid oid, indexrelid oid, schemaname name, relname name, indexrelname name, idx_scan int8, idx_tup_read int8, idx_tup_fetch int8", statIndexRows},
		{"pg_statio_user_tables", 12167, "relid oid, schemaname name, relname name, heap_blks_read int8, heap_blks_hit int8, idx_blks_read int8, idx_blks_hit int8, toast_blks_read int8, toast_blks_hit int8, tidx_blks_read int8, tidx_blks_hit int8", nil},
	}
}

const statTableColumns = "relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, idx_scan int8, idx_tup_fetch int8, n_tup_ins int8, n_tup_upd int8, n_tup_del int8, n_tup_hot_upd int8, n_live_tup int8, n_dead_tup int8, n_mod_since_analyze int8, n_ins_since_vacuum int8, last_vacuum timestamptz, last_autovacuum timestamptz, last_analyze timestamptz, last_autoanalyze timestamptz, vacuum_count int8, autovacuum_count int8, analyze_count int8, autoanalyze_count int8"

func namespaceRows(b *rowBuilder) {
	for _, n := range namespaces {
		b.add(n.oid, n.name, n.owner, nil)
	}
	for _, t := range b.schema.tables {
		if t.temp {
			b.add(tempNamespace, "pg_temp_1", bootstrapRole, nil)
			return
		}
	}
}

func (t *table) namespace() oid.OID {
	if t.temp {
		return tempNamespace
	}
	return publicNamespace
}

func (t *table) schemaName() string {
	if t.temp {
		return "pg_temp_1"
	}
	return "public"
}

func (t *table) persistence() byte {
	if t.temp {
		return 't'
	}
	return 'p'
}

// classRow is one row of pg_class: the few columns that differ between relations.
type classRow struct {
	oid, namespace, method oid.OID
	name                   string
	kind, persistence      byte
	natts, checks          int
	hasIndex, hasTriggers  bool
	options                any
}

func (b *rowBuilder) class(r classRow) {
	tuples, pages := -1.0, 0
	if r.kind == 'i' {
		tuples, pages = 0, 1
	}
	replident := byte('n')
	if r.kind == 'r' && r.namespace != catalogNamespace {
		replident = 'd'
	}
	rules := r.kind == 'v'
	b.add(r.oid, r.name, r.namespace, 0, 0, bootstrapRole, r.method, r.oid, 0, pages, tuples, 0, 0, r.hasIndex, false,
		r.persistence, r.kind, r.natts, r.checks, rules, r.hasTriggers, false, false, false, true, replident, false, 0, 0, 0,
		nil, r.options, nil)
}

func classRows(b *rowBuilder) {
	referred := map[*table]bool{} // foreign keys are triggers on both tables in PostgreSQL
	b.eachConstraint(func(_ *table, k *tableConstraint) {
		if k.kind == 'f' {
			referred[k.target] = true
		}
	})
	for _, t := range b.schema.tables {
		r := classRow{oid: t.oid, namespace: t.namespace(), name: t.name, kind: t.kind, persistence: t.persistence(), natts: len(t.columns)}
		if t.kind == 'r' {
			r.method = heapMethod
		}
		for _, k := range t.constraints {
			if k.kind == 'c' {
				r.checks++
			}
			r.hasTriggers = r.hasTriggers || k.kind == 'f'
		}
		r.hasIndex, r.hasTriggers = len(t.indexes) > 0, r.hasTriggers || len(t.triggers) > 0 || referred[t]
		b.class(r)
		for _, i := range t.indexes {
			b.class(classRow{oid: i.oid, namespace: t.namespace(), name: i.name, kind: 'i', method: btreeMethod, persistence: t.persistence(), natts: len(i.keys)})
		}
		if t.sequence != "" {
			b.class(classRow{oid: ObjectOID(KindSequence, t.sequence), namespace: t.namespace(), name: t.sequence, kind: 'S', persistence: t.persistence(), natts: 3})
		}
	}
	for i := range relations {
		r := &relations[i]
		c := classRow{oid: r.oid, namespace: r.namespace(), name: r.shownName(), kind: r.relkind(), persistence: 'p', natts: len(r.fields())}
		if c.kind == 'r' {
			c.method = heapMethod
		}
		b.class(c)
	}
}

func (b *rowBuilder) attribute(relid oid.OID, c column) {
	length, byval, align, storage := -1, false, byte('i'), byte('x')
	dims := 0
	if t := pgTypesByOID[c.typ]; t != nil {
		length = t.len
		byval, align, storage = t.layout()
		if t.category == 'A' && t.name[0] == '_' {
			dims = 1
		}
	}
	generated := ""
	if c.generated {
		generated = "s"
	}
	b.add(relid, c.name, c.typ, -1, length, c.number, dims, -1, c.mod, byval, align, storage, "", c.notNull,
		c.def != "", false, "", generated, false, true, 0, collationOf(c.typ), nil, nil, nil, nil)
}

func attributeRows(b *rowBuilder) {
	for _, t := range b.schema.tables {
		for _, c := range t.columns {
			b.attribute(t.oid, c)
		}
		for _, i := range t.indexes {
			for n, item := range i.items {
				c := column{name: item.column, number: n + 1, typ: oid.Text, mod: -1}
				if key := i.keys[n]; key > 0 {
					c.typ, c.mod = t.columns[key-1].typ, t.columns[key-1].mod
				} else {
					c.name = "expr"
				}
				b.attribute(i.oid, c)
			}
		}
		if t.sequence != "" {
			o := ObjectOID(KindSequence, t.sequence)
			b.attribute(o, column{name: "last_value", number: 1, typ: oid.Int8, mod: -1, notNull: true})
			b.attribute(o, column{name: "log_cnt", number: 2, typ: oid.Int8, mod: -1, notNull: true})
			b.attribute(o, column{name: "is_called", number: 3, typ: oid.Bool, mod: -1, notNull: true})
		}
	}
	for i := range relations {
		for n, f := range relations[i].fields() {
			b.attribute(relations[i].oid, column{name: f.name, number: n + 1, typ: f.typ, mod: -1})
		}
	}
}

func attrdefRows(b *rowBuilder) {
	for _, t := range b.schema.tables {
		for _, c := range t.columns {
			if c.def != "" {
				b.add(ObjectOID(KindDefault, t.name+"."+c.name), t.oid, c.number, c.def)
			}
		}
	}
}

func indexRows(b *rowBuilder) {
	for _, t := range b.schema.tables {
		for _, i := range t.indexes {
			options := make([]int, len(i.items))
			collations := make([]int, len(i.items))
			classes := make([]int, len(i.items))
			var exprs []string
			for n, item := range i.items {
				if item.desc {
					options[n] = 3 // DESC, and with it NULLS FIRST
				}
				if i.keys[n] == 0 {
					exprs = append(exprs, spell(item.expr))
				} else {
					collations[n] = int(collationOf(t.columns[i.keys[n]-1].typ))
				}
			}
			b.add(i.oid, t.oid, len(i.keys), len(i.keys), i.unique, false, i.primary, false, true, false, true, false, true, true, false,
				joinInts(i.keys, " "), joinInts(collations, " "), joinInts(classes, " "), joinInts(options, " "),
				optional(strings.Join(exprs, ", ")), optional(i.where))
		}
	}
}

// optional is NULL for nothing.
func optional(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func constraintRows(b *rowBuilder) {
	for _, t := range b.schema.tables {
		for _, k := range t.constraints {
			var indexOID, target oid.OID
			if k.index != nil {
				indexOID = k.index.oid
			}
			var refs, check any
			onUpdate, onDelete, match := " ", " ", " "
			if k.kind == 'f' {
				onUpdate, onDelete, match = string(k.onUpdate), string(k.onDelete), "s"
				refs = intArray(k.refs)
				if k.target != nil {
					target = k.target.oid
				}
			}
			if k.kind == 'c' {
				check = k.check
			}
			b.add(k.oid, k.name, t.namespace(), k.kind, k.deferrable, k.deferred, true, t.oid, 0, indexOID, 0, target,
				onUpdate, onDelete, match, true, 0, k.kind != 'c', intArray(k.keys), refs, nil, nil, nil, nil, nil, check)
		}
	}
}

func typeRows(b *rowBuilder) {
	for i := range pgTypes {
		t := &pgTypes[i]
		byval, align, storage := t.layout()
		in, out, receive, send := t.inOut()
		preferred := t.oid == oid.Bool || t.oid == oid.Text || t.oid == oid.Float8 || t.oid == oid.OIDType || t.oid == oid.Timestamptz || t.oid == oid.Interval || t.name == "inet" || t.name == "varbit"
		delimiter := byte(',')
		if t.name == "box" || t.name == "_box" {
			delimiter = ';'
		}
		subscript := oid.OID(0)
		if t.category == 'A' {
			subscript, _ = functionOID("array_subscript_handler")
		}
		proc := func(name string) oid.OID { o, _ := functionOID(name); return o }
		b.add(t.oid, t.name, catalogNamespace, bootstrapRole, t.len, byval, t.kind, t.category, preferred, true, delimiter, 0,
			subscript, t.elem, t.array, proc(in), proc(out), proc(receive), proc(send), 0, 0, 0, align, storage, false, 0, -1, 0,
			collationOf(t.oid), nil, nil, nil)
	}
}

func rangeRows(b *rowBuilder) {
	for _, r := range [][3]oid.OID{{3904, 23, 4451}, {3906, 1700, 4532}, {3908, 1114, 4533}, {3910, 1184, 4534}, {3912, 1082, 4535}, {3926, 20, 4536}} {
		b.add(r[0], r[1], r[2], 0, 0, 0, 0)
	}
}

func accessMethodRows(b *rowBuilder) {
	b.add(heapMethod, "heap", 0, "t")
	b.add(btreeMethod, "btree", 0, "i")
}

func collationRows(b *rowBuilder) {
	b.add(100, "default", catalogNamespace, bootstrapRole, "d", true, -1, nil, nil, nil, nil)
	b.add(950, "C", catalogNamespace, bootstrapRole, "c", true, -1, "C", "C", nil, nil)
	b.add(951, "POSIX", catalogNamespace, bootstrapRole, "c", true, -1, "POSIX", "POSIX", nil, nil)
	b.add(962, "ucs_basic", catalogNamespace, bootstrapRole, "c", true, 6, "C", "C", nil, nil)
}

// serialType is the type that a sequence counts in, and its largest number.
func (t *table) serialType() (oid.OID, int64) {
	for _, c := range t.columns {
		if c.serial && c.typ != oid.Int8 {
			return oid.Int4, 1<<31 - 1
		}
	}
	return oid.Int8, 1<<63 - 1
}

func sequenceRows(b *rowBuilder) {
	for _, t := range b.schema.tables {
		if t.sequence != "" {
			typ, last := t.serialType()
			b.add(ObjectOID(KindSequence, t.sequence), typ, 1, 1, last, 1, 1, false)
		}
	}
}

func sequencesRows(b *rowBuilder) {
	for _, t := range b.schema.tables {
		if t.sequence != "" {
			typ, last := t.serialType()
			var current any
			if n, ok := b.sequenceValue(t.name); ok {
				current = n
			}
			b.add(t.schemaName(), t.sequence, b.bootstrapName(), typeSpelling(typ, -1), 1, 1, last, 1, false, 1, current)
		}
	}
}

func triggerRows(b *rowBuilder) {
	for _, t := range b.schema.tables {
		for _, name := range t.triggers {
			b.add(ObjectOID(KindTrigger, name), t.oid, 0, name, 0, 0, "O", false, 0, 0, 0, false, false, 0, "", []byte{}, nil, nil, nil)
		}
	}
}

func procRows(b *rowBuilder) {
	for _, f := range procs {
		b.add(f.oid, f.name, catalogNamespace, bootstrapRole, 12, 1.0, 0.0, 0, 0, f.kind, false, false, true, false, "i", "s",
			f.args, 0, oid.Text, "", nil, nil, nil, nil, nil, f.name, nil, nil, nil, nil)
	}
}

func languageRows(b *rowBuilder) {
	b.add(12, "internal", bootstrapRole, false, false, 0, 0, 0, nil)
	b.add(14, "sql", bootstrapRole, false, true, 0, 0, 0, nil)
}

func tablesRows(b *rowBuilder) {
	owner := b.bootstrapName()
	for _, t := range b.schema.tables {
		if t.kind == 'r' {
			b.add(t.schemaName(), t.name, owner, nil, len(t.indexes) > 0, false, len(t.triggers) > 0, false)
		}
	}
	for i := range relations {
		if r := &relations[i]; !r.isView() {
			b.add("pg_catalog", r.name, owner, nil, true, false, false, false)
		}
	}
}

func viewsRows(b *rowBuilder) {
	owner := b.bootstrapName()
	for _, t := range b.schema.tables {
		if t.kind == 'v' {
			b.add(t.schemaName(), t.name, owner, t.viewText())
		}
	}
	for i := range relations {
		if r := &relations[i]; r.isView() {
			name := "pg_catalog"
			if r.isInformation() {
				name = "information_schema"
			}
			b.add(name, r.shownName(), owner, "")
		}
	}
}

func indexesRows(b *rowBuilder) {
	for _, t := range b.schema.tables {
		for _, i := range t.indexes {
			b.add(t.schemaName(), t.name, i.name, nil, i.definition(true))
		}
	}
}

func statTableRows(b *rowBuilder) {
	for _, t := range b.schema.tables {
		if t.kind == 'r' {
			b.add(t.oid, t.schemaName(), t.name, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, nil, nil, nil, nil, 0, 0, 0, 0)
		}
	}
}

func statIndexRows(b *rowBuilder) {
	for _, t := range b.schema.tables {
		for _, i := range t.indexes {
			b.add(t.oid, i.oid, t.schemaName(), t.name, i.name, 0, 0, 0)
		}
	}
}

// definition is pg_get_indexdef; qualified names the table's schema, as it does unless pretty.
func (i *index) definition(qualified bool) string {
	var b strings.Builder
	b.WriteString("CREATE ")
	if i.unique {
		b.WriteString("UNIQUE ")
	}
	b.WriteString("INDEX " + quoteIdent(i.name) + " ON ")
	if qualified {
		b.WriteString(i.table.schemaName() + ".")
	}
	b.WriteString(quoteIdent(i.table.name) + " USING btree (")
	for n := range i.items {
		if n > 0 {
			b.WriteString(", ")
		}
		b.WriteString(i.key(n))
		if i.items[n].desc {
			b.WriteString(" DESC")
		}
	}
	b.WriteString(")")
	if i.where != "" {
		b.WriteString(" WHERE " + parenthesize(i.where))
	}
	return b.String()
}

// key is one key's text, as pg_get_indexdef with a column number gives it.
func (i *index) key(n int) string {
	item := i.items[n]
	switch tokens := lex(item.expr); {
	case item.column != "":
		return quoteIdent(item.column)
	case len(tokens) > 2 && tokens[0].word && tokens[1].is("(") && tokens[len(tokens)-1].is(")"):
		return spell(item.expr)
	}
	return parenthesize(spell(item.expr))
}

func parenthesize(s string) string {
	p := &ddlParser{sql: s, tokens: lex(s)}
	if p.peek().is("(") && p.group() != "" && p.done() {
		return s
	}
	return "(" + s + ")"
}

// viewText is the query of a view.
func (t *table) viewText() string {
	depth := 0
	for _, tok := range lex(t.sql) {
		switch {
		case tok.is("("):
			depth++
		case tok.is(")"):
			depth--
		case tok.is("AS") && depth == 0:
			return " " + strings.TrimSuffix(strings.TrimSpace(t.sql[tok.end:]), ";") + ";"
		}
	}
	return ""
}

// definition is pg_get_constraintdef.
func (k *tableConstraint) definition(t *table) string {
	names := func(t *table, keys []int) string {
		var out []string
		for _, n := range keys {
			if t != nil && n <= len(t.columns) {
				out = append(out, quoteIdent(t.columns[n-1].name))
			}
		}
		return "(" + strings.Join(out, ", ") + ")"
	}
	var s string
	switch k.kind {
	case 'p':
		s = "PRIMARY KEY " + names(t, k.keys)
	case 'u':
		s = "UNIQUE " + names(t, k.keys)
	case 'c':
		return "CHECK " + "(" + parenthesize(k.check) + ")"
	case 'f':
		s = "FOREIGN KEY " + names(t, k.keys) + " REFERENCES " + quoteIdent(k.refTable)
		if len(k.refs) > 0 {
			s += names(k.target, k.refs)
		}
		actions := map[byte]string{'c': "CASCADE", 'r': "RESTRICT", 'n': "SET NULL", 'd': "SET DEFAULT"}
		if a := actions[k.onUpdate]; a != "" {
			s += " ON UPDATE " + a
		}
		if a := actions[k.onDelete]; a != "" {
			s += " ON DELETE " + a
		}
	}
	if k.deferrable {
		s += " DEFERRABLE"
	}
	if k.deferred {
		s += " INITIALLY DEFERRED"
	}
	return s
}

// proc is one row of pg_proc.
type proc struct {
	oid  oid.OID
	name string
	kind string
	args int
}

// procs lists what pg_proc shows: the functions of this package, SQLite's common ones, and those that
// pg_type names. It does not change after init.
var (
	procs       []proc
	procsByName = map[string]oid.OID{"now": 1299, "array_in": 750, "array_recv": 2400, "count": 2803, "version": 89}
	procsByOID  = map[oid.OID]string{}
)

// initProcs runs after the functions are known.
func initProcs() {
	fixed := procsByName
	procsByName = map[string]oid.OID{}
	add := func(name, kind string, args int) {
		if _, seen := procsByName[name]; seen || strings.HasPrefix(name, "cast_") || strings.HasSuffix(name, "_") {
			return
		}
		o, ok := fixed[name]
		if !ok {
			o = ObjectOID(KindFunction, name)
		}
		procsByName[name], procsByOID[o] = o, name
		procs = append(procs, proc{o, name, kind, args})
	}
	for _, f := range functions {
		add(f.name, "f", f.min)
	}
	for _, a := range aggregates {
		add(a.name, "a", a.args)
	}
	for _, name := range []string{"count", "sum", "avg", "min", "max", "string_agg"} {
		add(name, "a", 1)
	}
	for _, name := range []string{"coalesce", "concat", "concat_ws", "length", "ltrim", "rtrim", "nullif", "replace", "octet_length", "array_subscript_handler"} {
		add(name, "f", 1)
	}
	for i := range pgTypes {
		in, out, receive, send := pgTypes[i].inOut()
		for _, name := range []string{in, out, receive, send} {
			add(name, "f", 1)
		}
	}
}

func functionOID(name string) (oid.OID, bool) {
	o, ok := procsByName[strings.ToLower(name)]
	return o, ok
}

func functionName(o oid.OID) (string, bool) {
	name, ok := procsByOID[o]
	return name, ok
}

// oidText prints an OID where a name is wanted and there is none.
func oidText(o int64) string { return strconv.FormatInt(o, 10) }
