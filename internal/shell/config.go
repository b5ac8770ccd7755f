package shell

import (
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// defaults is where `skein demo` listens. Each applies only where neither the connection string nor
// PostgreSQL's environment variable says something else.
var defaults = []struct{ key, env, value string }{
	{"host", "PGHOST", "127.0.0.1"},
	{"port", "PGPORT", "5432"},
	{"user", "PGUSER", "skein"},
	{"dbname", "PGDATABASE", "skein"},
	{"application_name", "PGAPPNAME", "skein sql"},
}

// ParseConfig reads a connection string as `skein sql` does.
func ParseConfig(connString string) (*pgconn.Config, error) {
	return parseConfig(connString, os.LookupEnv)
}

// parseConfig reads a connection string as libpq does, except that nothing at all means the demo's
// first node instead of a database named after the operating-system user.
func parseConfig(connString string, lookupEnv func(string) (string, bool)) (*pgconn.Config, error) {
	if strings.TrimSpace(connString) != "" {
		return pgconn.ParseConfig(connString)
	}
	var pairs []string
	for _, d := range defaults {
		if _, set := lookupEnv(d.env); !set {
			pairs = append(pairs, d.key+"='"+d.value+"'")
		}
	}
	return pgconn.ParseConfig(strings.Join(pairs, " "))
}
