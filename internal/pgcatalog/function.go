package pgcatalog

import (
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/sqlstate"
)

// Flags of a function. The zero value is a strict function (NULL in, NULL out) that may change its
// answer from call to call and may stand in views and defaults.
const (
	pure     = 1 << iota // same arguments, same result: may stand in an index
	direct               // acts on the session or reads it: not from views, defaults and triggers
	nullable             // is called with NULL arguments
	varying              // may answer differently within one transaction
)

// function describes one SQL function. The table of them is shared by all connections.
type function struct {
	name     string
	min, max int // number of arguments; max < 0 means any number
	flags    int
	run      func(c *call) error
}

// call is one evaluation of a function: it is valid until run returns.
type call struct {
	*catalog
	ctx sqlite3.Context
	arg []sqlite3.Value
}

func (f *function) register(cat *catalog) error {
	flags := sqlite3.INNOCUOUS
	if f.flags&direct != 0 {
		flags = sqlite3.DIRECTONLY
	}
	if f.flags&pure != 0 {
		flags |= sqlite3.DETERMINISTIC
	}
	if f.flags&jsonResult != 0 {
		flags |= sqlite3.RESULT_SUBTYPE
	}
	if f.flags&jsonArgs != 0 {
		flags |= sqlite3.SUBTYPE
	}
	args := f.max
	if f.min != f.max {
		args = -1
	}
	return cat.conn.CreateFunction(f.name, args, flags, func(ctx sqlite3.Context, arg ...sqlite3.Value) {
		f.call(cat, ctx, arg)
	})
}

func (f *function) call(cat *catalog, ctx sqlite3.Context, arg []sqlite3.Value) {
	if len(arg) < f.min || (f.max >= 0 && len(arg) > f.max) {
		cat.fail(ctx, sqlstate.New(sqlstate.UndefinedFunction, "function %s with %d arguments does not exist", f.name, len(arg)))
		return
	}
	if f.flags&nullable == 0 && anyNull(arg) {
		return
	}
	// A bug in one function must cost one statement, not the connection's SQLite state and with it
	// the process.
	defer func() {
		if r := recover(); r != nil {
			cat.fail(ctx, panicked(f.name, r))
		}
	}()
	if err := f.run(&call{cat, ctx, arg}); err != nil {
		cat.fail(ctx, err)
	}
}

func panicked(function string, r any) error {
	if IsOutOfMemory(r) {
		return sqlstate.New(sqlstate.OutOfMemory, "the statement needs more memory than a connection may use")
	}
	return sqlstate.New(sqlstate.InternalError, "function %s: %v", function, r)
}

// IsOutOfMemory says whether a recovered panic is that of the SQLite binding when SQLite's memory is used up.
// The binding's own name for it is internal.
func IsOutOfMemory(r any) bool {
	err, ok := r.(error)
	return ok && err.Error() == "sqlite3: out of memory"
}

func anyNull(arg []sqlite3.Value) bool {
	for _, a := range arg {
		if a.Type() == sqlite3.NULL {
			return true
		}
	}
	return false
}

// fail hands the exact error to the session and its text to SQLite.
func (cat *catalog) fail(ctx sqlite3.Context, err error) {
	e, ok := err.(*sqlstate.Error)
	if !ok {
		e = sqlstate.New(sqlstate.InternalError, "%v", err)
	}
	cat.sess().Fail(e)
	ctx.ResultError(fmt.Errorf("%s", e.Message))
}

func (c *call) isNull(i int) bool { return i >= len(c.arg) || c.arg[i].Type() == sqlite3.NULL }

// text gives argument i as text; a float is spelled as PostgreSQL spells it.
func (c *call) text(i int) string {
	switch c.arg[i].Type() {
	case sqlite3.FLOAT:
		return formatFloat(c.arg[i].Float())
	case sqlite3.BLOB:
		return byteaOut(c.arg[i].RawBlob())
	}
	return c.arg[i].Text()
}

// textOr gives argument i as text, or other when it is absent or NULL.
func (c *call) textOr(i int, other string) string {
	if c.isNull(i) {
		return other
	}
	return c.text(i)
}

// int gives argument i as an integer.
func (c *call) int(i int) (int64, error) {
	return toInt(c.arg[i], "bigint")
}

// intOr gives argument i as an integer, or other when it is absent or NULL.
func (c *call) intOr(i int, other int64) (int64, error) {
	if c.isNull(i) {
		return other, nil
	}
	return c.int(i)
}

func (c *call) bytes(i int) []byte {
	if c.arg[i].Type() == sqlite3.BLOB {
		return c.arg[i].RawBlob()
	}
	return []byte(c.text(i))
}

func (c *call) returnText(s string) error   { c.ctx.ResultText(s); return nil }
func (c *call) returnInt(n int64) error     { c.ctx.ResultInt64(n); return nil }
func (c *call) returnFloat(f float64) error { c.ctx.ResultFloat(f); return nil }
func (c *call) returnBool(b bool) error     { c.ctx.ResultBool(b); return nil }
func (c *call) returnArg(i int) error       { c.ctx.ResultValue(c.arg[i]); return nil }
func (c *call) returnBlob(b []byte) error   { c.ctx.ResultBlob(nonNil(b)); return nil }
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// always makes a function that answers the same to everything.
func always(v any) func(*call) error {
	return func(c *call) error {
		setResult(c.ctx, v)
		return nil
	}
}

// setResult gives SQLite a catalog value: nil, bool, integer, float64, string or []byte.
func setResult(ctx sqlite3.Context, v any) {
	switch v := v.(type) {
	case nil:
		ctx.ResultNull()
	case bool:
		ctx.ResultBool(v)
	case int:
		ctx.ResultInt64(int64(v))
	case int64:
		ctx.ResultInt64(v)
	case float64:
		ctx.ResultFloat(v)
	case string:
		ctx.ResultText(v)
	case []byte:
		ctx.ResultBlob(nonNil(v))
	}
}
