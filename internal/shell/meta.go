package shell

import (
	"context"
	"fmt"
	"strings"
)

const help = `Statements end with a semicolon. Ctrl-C cancels the one that runs.

  \d            tables, views and sequences
  \d NAME       columns, indexes and constraints of a table
  \dt \dv \di   tables, views, indexes
  \du           roles
  \l            databases
  \conninfo     which server this is
  \r            forget the statement being typed
  \timing       show how long each statement takes, or stop showing it
  \q            leave
`

const listDatabases = `SELECT d.datname AS "Name", pg_catalog.pg_get_userbyid(d.datdba) AS "Owner",
       pg_catalog.pg_encoding_to_char(d.encoding) AS "Encoding"
FROM pg_catalog.pg_database d ORDER BY 1;`

const listRoles = `SELECT rolname AS "Role", rolsuper AS "Superuser", rolcanlogin AS "Can log in"
FROM pg_catalog.pg_roles ORDER BY 1;`

const listRelations = `SELECT n.nspname AS "Schema", c.relname AS "Name",
       CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'i' THEN 'index' WHEN 'S' THEN 'sequence' ELSE 'other' END AS "Type"
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN (%s) AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
ORDER BY 1, 2;`

const describeColumns = `SELECT a.attname AS "Column", pg_catalog.format_type(a.atttypid, a.atttypmod) AS "Type",
       CASE WHEN a.attnotnull THEN 'not null' ELSE '' END AS "Nullable",
       coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') AS "Default"
FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;`

const describeConstraints = `SELECT conname AS "Constraint", pg_catalog.pg_get_constraintdef(oid) AS "Definition"
FROM pg_catalog.pg_constraint WHERE conrelid = %s::regclass AND contype IN ('c', 'f') ORDER BY 1;`

const describeIndexes = `SELECT indexname AS "Index", indexdef AS "Definition"
FROM pg_catalog.pg_indexes WHERE tablename = %s ORDER BY 1;`

// meta runs one backslash command. Most are a query that a person would rather not type.
func (s *Shell) meta(ctx context.Context, line string) error {
	name, argument, _ := strings.Cut(strings.TrimSuffix(line, ";"), " ")
	argument = strings.TrimSpace(argument)
	switch name {
	case `\q`:
		return errQuit
	case `\?`, `\h`:
		fmt.Fprint(s.options.Out, help)
	case `\r`:
		s.typed = splitter{}
	case `\conninfo`:
		fmt.Fprintf(s.options.Out, "Connected to %s, session %d.\n", s.address(), s.conn.PID())
	case `\timing`:
		s.timing = !s.timing
		fmt.Fprintf(s.options.Out, "Timing is %s.\n", map[bool]string{true: "on", false: "off"}[s.timing])
	case `\d`:
		s.describe(ctx, argument)
	case `\dt`:
		s.relations(ctx, `'r'`)
	case `\dv`:
		s.relations(ctx, `'v'`)
	case `\di`:
		s.relations(ctx, `'i'`)
	case `\du`:
		s.execute(ctx, listRoles)
	case `\l`:
		s.execute(ctx, listDatabases)
	default:
		s.failed = true
		fmt.Fprintf(s.options.Err, "There is no command %s here; \\? lists those that there are.\n", name)
	}
	return nil
}

func (s *Shell) describe(ctx context.Context, relation string) {
	if relation == "" {
		s.relations(ctx, `'r', 'v', 'S'`)
		return
	}
	name := foldName(relation)
	known := literal(`"` + strings.ReplaceAll(name, `"`, `""`) + `"`)
	if !s.execute(ctx, fmt.Sprintf(describeColumns, known)) {
		return
	}
	s.execute(ctx, fmt.Sprintf(describeIndexes, literal(name)))
	s.execute(ctx, fmt.Sprintf(describeConstraints, known))
}

func (s *Shell) relations(ctx context.Context, kinds string) {
	s.execute(ctx, fmt.Sprintf(listRelations, kinds))
}

// foldName reads a name as SQL does: lower case unless it is quoted; a schema before it is dropped.
func foldName(name string) string {
	if len(name) > 1 && name[0] == '"' && name[len(name)-1] == '"' {
		return strings.ReplaceAll(name[1:len(name)-1], `""`, `"`)
	}
	return strings.TrimPrefix(strings.ToLower(name), "public.")
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
