package pgcatalog

import (
	"strings"

	"skein/internal/oid"
)

// canned is one client query that no word-by-word translation can carry over: it selects a field of
// a row, unfolds an array in a select list, or joins laterally. Clients vary such a query in one
// place only, the condition on the table, so it is known by what stands before and after.
type canned struct {
	head, tail  string // of the text with every run of white space as one blank
	replacement string // SQLite's dialect; %s is what stood between
	number      bool   // of what stood between, only the number that it begins with
	params      []oid.OID
	results     map[int]oid.OID // types, by position, that no declared column tells
}

var cannedQueries = []canned{
	{ // pgbench 14 and later, before a run: is pgbench_accounts partitioned?
		head: "select o.n, p.partstrat, pg_catalog.count(i.inhparent) from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on (n.oid = c.relnamespace) cross join lateral (select pg_catalog.array_position(pg_catalog.current_schemas(true), n.nspname)) as o(n) left join pg_catalog.pg_partitioned_table as p on (p.partrelid = c.oid) left join pg_catalog.pg_inherits as i on (c.oid = i.inhparent) where",
		tail: "and o.n is not null group by 1, 2 order by 1 asc limit 1",
		replacement: `SELECT array_position(current_schemas(1), n.nspname) AS n, NULL AS partstrat, 0 AS count
			FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE %s AND n.nspname IN ('pg_catalog', 'public') ORDER BY 1 LIMIT 1`,
		results: map[int]oid.OID{0: oid.Int4, 1: oid.Char, 2: oid.Int8},
	},
	{ // pgjdbc, DatabaseMetaData.getPrimaryKeys
		head: "SELECT result.TABLE_CAT, result.TABLE_SCHEM, result.TABLE_NAME, result.COLUMN_NAME, result.KEY_SEQ, result.PK_NAME FROM (SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, ct.relname AS TABLE_NAME, a.attname AS COLUMN_NAME, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, ci.relname AS PK_NAME, information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) JOIN pg_catalog.pg_index i ON ( a.attrelid = i.indrelid) JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid) WHERE",
		tail: "AND i.indisprimary ) result where result.A_ATTNUM = (result.KEYS).x ORDER BY result.table_name, result.pk_name, result.key_seq",
		replacement: `SELECT NULL AS table_cat, n.nspname AS table_schem, ct.relname AS table_name, a.attname AS column_name, k.n AS key_seq, ci.relname AS pk_name
			FROM pg_class ct JOIN pg_index i ON ct.oid = i.indrelid JOIN pg_namespace n ON ct.relnamespace = n.oid JOIN pg_class ci ON ci.oid = i.indexrelid
			JOIN _pg_expandarray(i.indkey) k JOIN pg_attribute a ON ct.oid = a.attrelid AND a.attnum = k.x
			WHERE %s AND i.indisprimary ORDER BY 3, 6, 5`,
		results: map[int]oid.OID{4: oid.Int4},
	},
	{ // pgjdbc, DatabaseMetaData.getBestRowIdentifier
		head: "SELECT a.attname, a.atttypid, atttypmod FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) JOIN (SELECT i.indexrelid, i.indrelid, i.indisprimary, information_schema._pg_expandarray(i.indkey) AS keys FROM pg_catalog.pg_index i) i ON (a.attnum = (i.keys).x AND a.attrelid = i.indrelid) WHERE",
		tail: "AND i.indisprimary ORDER BY a.attnum",
		replacement: `SELECT a.attname, a.atttypid, a.atttypmod FROM pg_class ct JOIN pg_namespace n ON ct.relnamespace = n.oid JOIN pg_index i ON ct.oid = i.indrelid
			JOIN _pg_expandarray(i.indkey) k JOIN pg_attribute a ON ct.oid = a.attrelid AND a.attnum = k.x
			WHERE %s AND i.indisprimary ORDER BY a.attnum`,
	},
	{ // pgjdbc, DatabaseMetaData.getIndexInfo
		head: `SELECT tmp.TABLE_CAT, tmp.TABLE_SCHEM, tmp.TABLE_NAME, tmp.NON_UNIQUE, tmp.INDEX_QUALIFIER, tmp.INDEX_NAME, tmp.TYPE, tmp.ORDINAL_POSITION, trim(both '"' from pg_catalog.pg_get_indexdef(tmp.CI_OID, tmp.ORDINAL_POSITION, false)) AS COLUMN_NAME, CASE tmp.AM_NAME WHEN 'btree' THEN CASE tmp.I_INDOPTION[tmp.ORDINAL_POSITION - 1] & 1::smallint WHEN 1 THEN 'D' ELSE 'A' END ELSE NULL END AS ASC_OR_DESC, tmp.CARDINALITY, tmp.PAGES, tmp.FILTER_CONDITION FROM (SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, ct.relname AS TABLE_NAME, NOT i.indisunique AS NON_UNIQUE, NULL AS INDEX_QUALIFIER, ci.relname AS INDEX_NAME, CASE i.indisclustered WHEN true THEN 1 ELSE CASE am.amname WHEN 'hash' THEN 2 ELSE 3 END END AS TYPE, (information_schema._pg_expandarray(i.indkey)).n AS ORDINAL_POSITION, ci.reltuples AS CARDINALITY, ci.relpages AS PAGES, pg_catalog.pg_get_expr(i.indpred, i.indrelid) AS FILTER_CONDITION, ci.oid AS CI_OID, i.indoption AS I_INDOPTION, am.amname AS AM_NAME FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) JOIN pg_catalog.pg_index i ON (ct.oid = i.indrelid) JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid) JOIN pg_catalog.pg_am am ON (ci.relam = am.oid) WHERE`,
		tail: ") AS tmp ORDER BY NON_UNIQUE, TYPE, INDEX_NAME, ORDINAL_POSITION",
		replacement: `SELECT NULL AS table_cat, n.nspname AS table_schem, ct.relname AS table_name, NOT i.indisunique AS non_unique, NULL AS index_qualifier,
			ci.relname AS index_name, 3 AS type, k.n AS ordinal_position, trim(pg_get_indexdef(ci.oid, k.n, 0), '"') AS column_name,
			CASE array_get(i.indoption, k.n - 1) & 1 WHEN 1 THEN 'D' ELSE 'A' END AS asc_or_desc, ci.reltuples AS cardinality, ci.relpages AS pages,
			i.indpred AS filter_condition
			FROM pg_class ct JOIN pg_namespace n ON ct.relnamespace = n.oid JOIN pg_index i ON ct.oid = i.indrelid
			JOIN pg_class ci ON ci.oid = i.indexrelid JOIN pg_am am ON ci.relam = am.oid JOIN _pg_expandarray(i.indkey) k
			WHERE %s ORDER BY 4, 7, 6, 8`,
		results: map[int]oid.OID{3: oid.Bool, 6: oid.Int4, 7: oid.Int4, 12: oid.Text},
	},
	{ // SQLAlchemy 1.4, get_pk_constraint
		head: "SELECT a.attname FROM pg_attribute a JOIN ( SELECT unnest(ix.indkey) attnum, generate_subscripts(ix.indkey, 1) ord FROM pg_index ix WHERE ix.indrelid =",
		tail: "ORDER BY k.ord",
		replacement: `SELECT a.attname FROM pg_index ix JOIN _pg_expandarray(ix.indkey) k JOIN pg_attribute a ON a.attrelid = ix.indrelid AND a.attnum = k.x
			WHERE ix.indrelid = %s AND ix.indisprimary ORDER BY k.n`,
		number: true,
	},
	{ // Django, get_constraints: the indexes
		head: "SELECT indexname, array_agg(attname ORDER BY arridx), indisunique, indisprimary, array_agg(ordering ORDER BY arridx), amname, exprdef, s2.attoptions FROM ( SELECT c2.relname as indexname, idx.*, attr.attname, am.amname, CASE WHEN idx.indexprs IS NOT NULL THEN pg_get_indexdef(idx.indexrelid) END AS exprdef, CASE am.amname WHEN 'btree' THEN CASE (option & 1) WHEN 1 THEN 'DESC' ELSE 'ASC' END END as ordering, c2.reloptions as attoptions FROM ( SELECT * FROM pg_index i, unnest(i.indkey, i.indoption) WITH ORDINALITY koi(key, option, arridx) ) idx LEFT JOIN pg_class c ON idx.indrelid = c.oid LEFT JOIN pg_class c2 ON idx.indexrelid = c2.oid LEFT JOIN pg_am am ON c2.relam = am.oid LEFT JOIN pg_attribute attr ON attr.attrelid = c.oid AND attr.attnum = idx.key WHERE",
		tail: "AND pg_catalog.pg_table_is_visible(c.oid) ) s2 GROUP BY indexname, indisunique, indisprimary, amname, exprdef, attoptions",
		replacement: `SELECT c2.relname AS indexname, array_agg(attr.attname ORDER BY k.ordinality) AS array_agg, i.indisunique, i.indisprimary,
			array_agg(CASE k.value2 & 1 WHEN 1 THEN 'DESC' ELSE 'ASC' END ORDER BY k.ordinality) AS array_agg, am.amname,
			CASE WHEN i.indexprs IS NOT NULL THEN pg_get_indexdef(i.indexrelid) END AS exprdef, c2.reloptions AS attoptions
			FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid JOIN pg_class c2 ON i.indexrelid = c2.oid JOIN pg_am am ON c2.relam = am.oid
			JOIN unnest(i.indkey, i.indoption) k LEFT JOIN pg_attribute attr ON attr.attrelid = c.oid AND attr.attnum = k.value
			WHERE %s AND pg_table_is_visible(c.oid) GROUP BY i.indexrelid ORDER BY 1`,
		results: map[int]oid.OID{1: oid.NameArray, 4: oid.TextArray},
	},
	{ // TypeORM, foreign keys of a table
		head: `SELECT "con"."conname" AS "constraint_name", "con"."nspname" AS "table_schema", "con"."relname" AS "table_name", "att2"."attname" AS "column_name", "ns"."nspname" AS "referenced_table_schema", "cl"."relname" AS "referenced_table_name", "att"."attname" AS "referenced_column_name", "con"."confdeltype" AS "on_delete", "con"."confupdtype" AS "on_update", "con"."condeferrable" AS "deferrable", "con"."condeferred" AS "deferred" FROM ( SELECT UNNEST ("con1"."conkey") AS "parent", UNNEST ("con1"."confkey") AS "child", "con1"."confrelid", "con1"."conrelid", "con1"."conname", "con1"."contype", "ns"."nspname", "cl"."relname", "con1"."condeferrable", CASE WHEN "con1"."condeferred" THEN 'INITIALLY DEFERRED' ELSE 'INITIALLY IMMEDIATE' END as condeferred, CASE "con1"."confdeltype" WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT' END as "confdeltype", CASE "con1"."confupdtype" WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT' END as "confupdtype" FROM "pg_class" "cl" INNER JOIN "pg_namespace" "ns" ON "cl"."relnamespace" = "ns"."oid" INNER JOIN "pg_constraint" "con1" ON "con1"."conrelid" = "cl"."oid" WHERE "con1"."contype" = 'f' AND`,
		tail: `) "con" INNER JOIN "pg_attribute" "att" ON "att"."attrelid" = "con"."confrelid" AND "att"."attnum" = "con"."child" INNER JOIN "pg_class" "cl" ON "cl"."oid" = "con"."confrelid" AND "cl"."relispartition" = 'f'INNER JOIN "pg_namespace" "ns" ON "cl"."relnamespace" = "ns"."oid" INNER JOIN "pg_attribute" "att2" ON "att2"."attrelid" = "con"."conrelid" AND "att2"."attnum" = "con"."parent"`,
		replacement: `SELECT con.conname AS constraint_name, ns.nspname AS table_schema, cl.relname AS table_name, att2.attname AS column_name,
			ns2.nspname AS referenced_table_schema, cl2.relname AS referenced_table_name, att.attname AS referenced_column_name,
			CASE con.confdeltype WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT' END AS on_delete,
			CASE con.confupdtype WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT' END AS on_update,
			con.condeferrable AS "deferrable", CASE WHEN con.condeferred THEN 'INITIALLY DEFERRED' ELSE 'INITIALLY IMMEDIATE' END AS "deferred"
			FROM pg_class cl JOIN pg_namespace ns ON cl.relnamespace = ns.oid JOIN pg_constraint con ON con.conrelid = cl.oid AND con.contype = 'f'
			JOIN unnest(con.conkey, con.confkey) k JOIN pg_attribute att ON att.attrelid = con.confrelid AND att.attnum = k.value2
			JOIN pg_class cl2 ON cl2.oid = con.confrelid JOIN pg_namespace ns2 ON cl2.relnamespace = ns2.oid
			JOIN pg_attribute att2 ON att2.attrelid = con.conrelid AND att2.attnum = k.value WHERE %s`,
	},
	{ // psql 13 and later, \d: triggers and the partitioned table that each comes from
		head: "SELECT t.tgname, pg_catalog.pg_get_triggerdef(t.oid, true), t.tgenabled, t.tgisinternal, CASE WHEN t.tgparentid != 0 THEN (SELECT u.tgrelid::pg_catalog.regclass FROM pg_catalog.pg_trigger AS u, pg_catalog.pg_partition_ancestors(t.tgrelid) WITH ORDINALITY AS a(relid, depth) WHERE u.tgname = t.tgname AND u.tgrelid = a.relid AND u.tgparentid = 0 ORDER BY a.depth LIMIT 1) END AS parent FROM pg_catalog.pg_trigger t WHERE t.tgrelid =",
		tail: "AND (NOT t.tgisinternal OR (t.tgisinternal AND t.tgenabled = 'D')) ORDER BY 1",
		replacement: `SELECT t.tgname, pg_get_triggerdef(t.oid, 1) AS pg_get_triggerdef, t.tgenabled, t.tgisinternal, NULL AS parent FROM pg_trigger t
			WHERE t.tgrelid = %s ORDER BY 1`,
	},
	{ // asyncpg, the types behind OIDs that it does not know; arrays bring their elements along
		head: "WITH RECURSIVE typeinfo_tree( oid, ns, name, kind, basetype, elemtype, elemdelim, range_subtype, attrtypoids, attrnames, depth) AS (",
		tail: "FROM typeinfo_tree ORDER BY depth DESC",
		replacement: `SELECT t.oid, n.nspname AS ns, t.typname AS name, t.typtype AS kind, NULL AS basetype, nullif(t.typelem, 0) AS elemtype, t.typdelim AS elemdelim,
			r.rngsubtype AS range_subtype, NULL AS attrtypoids, NULL AS attrnames, w.depth AS depth, NULL AS basetype_name,
			format_type(nullif(t.typelem, 0), NULL) AS elemtype_name, format_type(r.rngsubtype, NULL) AS range_subtype_name
			FROM (SELECT value AS oid, 0 AS depth FROM unnest(?1) UNION SELECT e.typelem, 1 FROM unnest(?1) u JOIN pg_type e ON e.oid = u.value AND e.typelem <> 0) w
			JOIN pg_type t ON t.oid = w.oid JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_range r ON r.rngtypid = t.oid ORDER BY w.depth DESC`,
		params:  []oid.OID{oid.OIDArray},
		results: map[int]oid.OID{4: oid.OIDType, 5: oid.OIDType, 8: oid.OIDArray, 9: oid.TextArray, 10: oid.Int4},
	},
}

// maxCanned is longer than any of these queries: other texts are not looked at.
const maxCanned = 16 << 10

// Canned gives the replacement, in SQLite's dialect, for the few exact client queries that cannot
// be translated word by word. It is cheap for every other text.
func Canned(sql string) (replacement string, ok bool) {
	q, between := findCanned(sql)
	switch {
	case q == nil:
		return "", false
	case !strings.Contains(q.replacement, "%s"):
		return q.replacement, true
	case q.number:
		between, ok = leadingNumber(between)
	default:
		between, ok = plainCondition(between)
	}
	return strings.Replace(q.replacement, "%s", between, 1), ok
}

// CannedTypes gives, for a text that Canned replaces, the types of its parameters and, by position,
// those of the result columns that SQLite declares no type for. Other columns without one are text.
func CannedTypes(sql string) (params []oid.OID, results map[int]oid.OID) {
	if q, _ := findCanned(sql); q != nil {
		return q.params, q.results
	}
	return nil, nil
}

func findCanned(sql string) (q *canned, between string) {
	if len(sql) < 200 || len(sql) > maxCanned || !strings.Contains(sql, "pg_") {
		return nil, ""
	}
	text := strings.TrimRight(strings.Join(strings.Fields(sql), " "), "; ")
	for i := range cannedQueries {
		q := &cannedQueries[i]
		rest, isHead := strings.CutPrefix(text, q.head)
		between, isTail := strings.CutSuffix(rest, q.tail)
		if isHead && isTail {
			return q, between
		}
	}
	return nil, ""
}

func leadingNumber(s string) (string, bool) {
	tokens := lex(s)
	if len(tokens) == 0 || !allDigits(tokens[0].text) {
		return "", false
	}
	return tokens[0].text, true
}

// plainCondition takes only comparisons of columns with literals and parameters: the text goes to
// SQLite without the dialect's checks, so it must not be able to call a function.
func plainCondition(s string) (string, bool) {
	var b strings.Builder
	called := true // whether a parenthesis may come now
	for _, t := range lex(s) {
		switch {
		case t.is("("):
			if !called {
				return "", false
			}
		case t.word && t.quoted, t.is(")"), t.is("."), t.is("="), t.is(","), isDigit(t.text[0]), strings.HasPrefix(t.text, "'"):
		case t.word:
		default:
			return "", false
		}
		called = t.is("(") || t.is("AND") || t.is("OR") || t.is("IN") || t.is("NOT") || t.is("WHERE")
		text := s[t.start:t.end]
		if rest, isParam := strings.CutPrefix(text, "$"); isParam {
			text = "?" + rest
		}
		if !t.is(".") && !strings.HasSuffix(b.String(), ".") {
			b.WriteByte(' ')
		}
		b.WriteString(text)
	}
	return b.String(), b.Len() > 0
}
