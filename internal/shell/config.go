package shell

import (
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// defaults is who connects to what where `skein demo` listens. Each applies only where neither the connection string nor
// PostgreSQL's environment variable says something else.
var defaults = []struct{ key, env, value string }{
	{"user", "PGUSER", "skein"},
	{"dbname", "PGDATABASE", "skein"},
	{"application_name", "PGAPPNAME", "skein sql"},
}

// The demo's nodes: whichever of them leads, unless one is named.
const demoNodes = "host=127.0.0.1,127.0.0.1,127.0.0.1 port=5432,5433,5434 target_session_attrs=read-write"

// ParseConfig reads a connection string as libpq does, except that nothing at all means the demo instead of a database
// named after the operating-system user.
func ParseConfig(connString string) (*pgconn.Config, error) {
	return parseConfig(connString, os.LookupEnv)
}

func parseConfig(connString string, lookupEnv func(string) (string, bool)) (*pgconn.Config, error) {
	if strings.TrimSpace(connString) != "" {
		return pgconn.ParseConfig(connString)
	}
	var pairs []string
	_, host := lookupEnv("PGHOST")
	_, port := lookupEnv("PGPORT")
	switch {
	case !host && !port:
		pairs = append(pairs, demoNodes)
	case !host:
		pairs = append(pairs, "host=127.0.0.1")
	case !port:
		pairs = append(pairs, "port=5432")
	}
	for _, d := range defaults {
		if _, set := lookupEnv(d.env); !set {
			pairs = append(pairs, d.key+"='"+d.value+"'")
		}
	}
	return pgconn.ParseConfig(strings.Join(pairs, " "))
}
