package engine

import (
	"skein/internal/dialect"
	"skein/internal/pgcatalog"
)

// parseOne parses a text, with the few exact texts of known clients replaced that cannot be translated.
func parseOne(sql string) ([]*dialect.Statement, error) {
	if replacement, ok := pgcatalog.Canned(sql); ok {
		return []*dialect.Statement{{Kind: dialect.Select, Text: sql, Tag: "SELECT", SQL: []string{replacement}}}, nil
	}
	return dialect.Parse(sql)
}
