package engine

import (
	"skein/internal/dialect"
	"skein/internal/oid"
	"skein/internal/pgcatalog"
)

// parseOne parses a text, with the few exact texts of known clients replaced that cannot be translated.
func parseOne(sql string) ([]*dialect.Statement, error) {
	replacement, ok := pgcatalog.Canned(sql)
	if !ok {
		return dialect.Parse(sql)
	}
	params, _ := pgcatalog.CannedTypes(sql)
	return []*dialect.Statement{{
		Kind: dialect.Select, Text: sql, Tag: "SELECT", SQL: []string{replacement}, NumParams: len(params), ParamTypes: params,
	}}, nil
}

// cannedTypes gives a canned statement's types, which SQLite cannot declare, to its plan.
func (p *plan) cannedTypes(st *dialect.Statement) {
	params, results := pgcatalog.CannedTypes(st.Text)
	for i, t := range results {
		if i < len(p.fields) {
			p.fields[i].Type = t
		}
	}
	for i, t := range params {
		if i < len(p.params) && p.params[i].OID == oid.Unspecified {
			p.params[i].OID = t
		}
	}
}
