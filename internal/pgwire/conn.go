package pgwire

import (
	"skein/internal/oid"
	"skein/internal/sqlstate"
)

// Conn writes messages to a client, buffered, and reads COPY data from it. A session uses it from
// the connection's goroutine, during a call that pgwire made to it; only Terminate and Between are
// for others.
type Conn struct{}

// Env gives the settings that Value writes with; the session changes them as its client does.
func (c *Conn) Env() *Env { return nil }

// PID is the number the client knows this connection by.
func (c *Conn) PID() uint32 { return 0 }

// RowDescription announces rows of these columns.
func (c *Conn) RowDescription(fields []Field) {}

// BeginRow begins a DataRow of n values.
func (c *Conn) BeginRow(n int) {}

// Value appends the next value of the row. On an error the row is withdrawn.
func (c *Conn) Value(t oid.OID, format int16, v Value) error { return nil }

// EndRow ends the row. It writes to the network past 32 KB and returns its error.
func (c *Conn) EndRow() error { return nil }

// CommandComplete ends the result of one statement, with its tag: "INSERT 0 3".
func (c *Conn) CommandComplete(tag string) {}

// EmptyQuery answers an empty statement.
func (c *Conn) EmptyQuery() {}

// PortalSuspended says that Execute's limit was reached.
func (c *Conn) PortalSuspended() {}

// NoData says that a statement returns no rows.
func (c *Conn) NoData() {}

// Notice sends a warning: severity WARNING for codes of class 01 and 25, else NOTICE.
func (c *Conn) Notice(e *sqlstate.Error) {}

// ParameterStatus reports the new value of a setting.
func (c *Conn) ParameterStatus(name, value string) {}

// CopyIn asks the client for COPY data. columns has the format of each column.
func (c *Conn) CopyIn(format int16, columns []int16) (*CopyReader, error) { return nil, nil }

// CopyOut announces COPY data to the client.
func (c *Conn) CopyOut(format int16, columns []int16) {}

// CopyData sends a piece of COPY data. It writes to the network past 32 KB and returns its error.
func (c *Conn) CopyData(data []byte) error { return nil }

// CopyDone ends the COPY data.
func (c *Conn) CopyDone() {}

// Terminate ends the connection with e as a FATAL error, from any goroutine: what runs now has its
// context cancelled, with e as the cause.
func (c *Conn) Terminate(e *sqlstate.Error) {}

// Between runs f on the connection's goroutine as soon as that is between two messages, then sends
// what f wrote. It may be called from any goroutine and does not wait. It is how a setting that
// changed by itself, or a notification, reaches a client that is idle.
func (c *Conn) Between(f func()) {}

// CopyReader reads the data of COPY FROM STDIN.
type CopyReader struct{}

// Read gives io.EOF after CopyDone and a *sqlstate.Error 57014 after CopyFail.
func (r *CopyReader) Read(p []byte) (int, error) { return 0, nil }
