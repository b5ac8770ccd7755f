package engine

import (
	"runtime"
	"runtime/debug"
	"strings"

	"skein/internal/pgcatalog"
	"skein/internal/sqlstate"
)

var (
	errOutOfMemory = sqlstate.New(sqlstate.OutOfMemory, "the statement needs more memory than a connection may use (%d MB)", connMemoryBytes>>20)
	errTooComplex  = sqlstate.New("54001", "the statement is too deeply nested")
)

// sqliteCode is the package of SQLite itself, as machine-made Go.
const sqliteCode = "github.com/ncruces/go-sqlite3-wasm/"

// guard runs fn on c. SQLite out of its memory does not return but panics, and so it does when its stack of 64 KB
// overflows: then the connection is lost, the statement fails, and the session lives on. So it does after
// any other panic in there, which would be a defect.
//
// SQLite's limit on the depth of expressions would have to be so low, to prevent the overflow, that it refused
// the long lists of OR that applications write, which need little of the stack.
func (s *Session) guard(c *conn, fn func() error) (err error) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		c.broken = true
		log := s.engine.options.Logger
		_, fault := r.(runtime.Error)
		switch {
		case pgcatalog.IsOutOfMemory(r):
			err = errOutOfMemory
		case fault && strings.HasPrefix(panickedIn(), sqliteCode):
			err = errTooComplex
		default:
			log.Error("panic in a statement", "database", s.db.Name, "panic", r, "stack", string(debug.Stack()))
			err = sqlstate.New(sqlstate.InternalError, "internal error: the connection to the database was given up")
			return
		}
		log.Warn("SQLite gave up a connection", "database", s.db.Name, "reason", r)
	}()
	return fn()
}

// panickedIn gives the function that has panicked, to a deferred function's callee.
func panickedIn() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs[:])])
	for panicking := false; ; {
		f, more := frames.Next()
		switch {
		case f.Function == "runtime.gopanic":
			panicking = true
		case panicking && !strings.HasPrefix(f.Function, "runtime."):
			return f.Function
		}
		if !more {
			return ""
		}
	}
}
