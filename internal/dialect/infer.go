package dialect

import "skein/internal/oid"

type inference struct{}

// Probe gives a SELECT, to be prepared and never run, whose columns are the column references that
// Infer needs the types of; "" when there are none.
func (s *Statement) Probe() string { return "" }

// Infer types the parameters and result columns. refs and mods hold the type of each of Probe's
// columns (nil if it could not be prepared); columns holds, for each result column, the type that
// its declaration gives, or 0.
func (s *Statement) Infer(refs []oid.OID, mods []int32, columns []oid.OID) (params []ParamType, results []oid.OID) {
	return nil, nil
}
