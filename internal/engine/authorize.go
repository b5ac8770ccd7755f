package engine

import (
	"strings"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/pgcatalog"
)

// columnReads notes which columns a statement reads, and which functions it calls, while it is prepared.
type columnReads struct {
	columns   [][2]string // table, column
	functions []string
}

// readablePragmas are the pragmas that only tell something. They also exist as table functions, with
// which the catalog reads the schema.
var readablePragmas = map[string]bool{
	"table_info": true, "table_xinfo": true, "table_list": true, "index_list": true, "index_info": true,
	"index_xinfo": true, "foreign_key_list": true, "foreign_key_check": true, "integrity_check": true,
	"quick_check": true, "function_list": true, "collation_list": true, "compile_options": true,
	"database_list": true, "page_count": true, "freelist_count": true, "data_version": true,
	"defer_foreign_keys": true,
}

// touches says whether an action on a table shows what is in it or changes it. What only looks at its columns goes over all
// tables, as ANALYZE does.
func touches(action sqlite3.AuthorizerActionCode) bool {
	return action != sqlite3.AUTH_PRAGMA && action != sqlite3.AUTH_ANALYZE && action != sqlite3.AUTH_FUNCTION
}

// authorize is SQLite's authorizer: the last line that keeps a statement inside its database. It sees
// what any text, however written, would do.
func (c *conn) authorize(action sqlite3.AuthorizerActionCode, name3, name4, _, _ string) sqlite3.AuthorizerReturnCode {
	if !c.own && c.session != nil && (strings.EqualFold(name3, pgcatalog.TokensTable) || strings.EqualFold(name4, pgcatalog.TokensTable)) && touches(action) {
		return sqlite3.AUTH_DENY
	}
	switch action {
	case sqlite3.AUTH_ATTACH:
		if name3 == "" { // VACUUM attaches a nameless temporary database
			return sqlite3.AUTH_OK
		}
		return sqlite3.AUTH_DENY
	case sqlite3.AUTH_PRAGMA:
		name := strings.ToLower(name3)
		if !readablePragmas[name] && (name != "schema_version" || name4 != "") {
			return sqlite3.AUTH_DENY
		}
	case sqlite3.AUTH_FUNCTION:
		if strings.EqualFold(name4, "load_extension") {
			return sqlite3.AUTH_DENY
		}
		if c.reads != nil {
			c.reads.functions = append(c.reads.functions, name4)
		}
	case sqlite3.AUTH_READ:
		if c.reads != nil {
			c.reads.columns = append(c.reads.columns, [2]string{name3, name4})
		}
	}
	return sqlite3.AUTH_OK
}
