// Package dialect turns PostgreSQL's SQL into SQLite's. It splits a query text into statements,
// says what each is, takes the operands out of those that the engine runs by itself (BEGIN, SET,
// COPY, …) and rewrites the others for SQLite. It also types parameters and result columns without
// running anything.
//
// It works on tokens: a recursive-descent parser finds the constructs that differ and edits their
// tokens in place; what it does not know is passed on as it was written, so SQLite's own syntax
// keeps working. What PostgreSQL has and Skein has not is refused with a SQLSTATE, never half done.
//
// Everything here is pure and without state: any goroutine may call it.
package dialect
