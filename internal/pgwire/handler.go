package pgwire

import (
	"context"
	"net"

	"skein/internal/oid"
)

// Handler opens sessions. Its methods are called from many connections' goroutines at once.
type Handler interface {
	// Verifier gives a role's "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey". It is false for a
	// role that does not exist, may not log in or has no password; the client cannot tell these apart.
	Verifier(role string) (scram string, ok bool)
	// MockSecret is the cluster's secret from which the salts of unknown roles are derived, so that
	// every node shows the same salt for the same name.
	MockSecret() []byte
	// Connect opens the session of an authenticated connection. An error refuses it: it is sent as
	// FATAL. ctx ends with the connection.
	Connect(ctx context.Context, c *Conn, s Startup) (Session, error)
}

// Startup is what a client asked for when it connected.
type Startup struct {
	User       string
	Database   string            // the user's name when the client gave none
	Params     map[string]string // everything else in the startup packet, but no _pq_ options
	PID        uint32
	RemoteAddr net.Addr
}

// Session runs the statements of one connection. Except for Cancel, its methods are called from the
// connection's goroutine, one at a time. Errors should be *sqlstate.Error; others become XX000.
// Slices handed to it are valid only during the call.
type Session interface {
	// Parameters are the settings reported to the client before its first ReadyForQuery, in order.
	Parameters() [][2]string
	// Simple runs a Query message and writes every result to the Conn, but not the returned error.
	Simple(ctx context.Context, sql string) error
	// Parse prepares a statement under a name; the name "" is overwritten. params may be shorter than
	// the list of parameters and may hold zeros.
	Parse(ctx context.Context, name, sql string, params []oid.OID) error
	// Bind makes a portal out of a prepared statement.
	Bind(ctx context.Context, b *Bind) error
	// DescribeStatement gives a statement's parameters and result; fields are nil when it returns no
	// rows (and not nil, but empty, when it returns rows of no columns).
	DescribeStatement(ctx context.Context, name string) (params []oid.OID, fields []Field, err error)
	// DescribePortal gives a portal's result, with the formats that Bind chose.
	DescribePortal(ctx context.Context, name string) (fields []Field, err error)
	// Execute writes up to maxRows rows (0: all) and then CommandComplete, EmptyQuery or
	// PortalSuspended to the Conn.
	Execute(ctx context.Context, portal string, maxRows int) error
	// CloseStatement forgets a prepared statement; a name that does not exist is no error.
	CloseStatement(name string) error
	// ClosePortal closes a portal; a name that does not exist is no error.
	ClosePortal(name string) error
	// Sync ends the implicit transaction. Its error is sent before ReadyForQuery.
	Sync(ctx context.Context) error
	// Fail says that a message of the extended protocol failed, be it in the session or before it: the
	// implicit transaction or the transaction block has now failed.
	Fail()
	// Status is the transaction status for ReadyForQuery: 'I' idle, 'T' in a block, 'E' in a failed one.
	Status() byte
	// Cancel interrupts what runs now, and only that. It comes from another goroutine, never before
	// Connect has returned and never after Close was called.
	Cancel()
	// Close rolls back and releases everything: the connection is gone.
	Close()
}

// Bind is a Bind message. It and its slices are valid only during the call of Session.Bind.
type Bind struct {
	Portal        string
	Statement     string
	ParamFormats  []int16  // none: all text; one: for all; else one each
	Params        [][]byte // nil is NULL
	ResultFormats []int16  // as ParamFormats, for the result's columns, whose number the session checks
}

// ParamFormat is the format of the i-th parameter: 0 text, 1 binary.
func (b *Bind) ParamFormat(i int) int16 { return formatAt(b.ParamFormats, i) }

// ResultFormat is the format of the i-th result column: 0 text, 1 binary.
func (b *Bind) ResultFormat(i int) int16 { return formatAt(b.ResultFormats, i) }

func formatAt(formats []int16, i int) int16 {
	switch {
	case len(formats) == 0:
		return TextFormat
	case len(formats) == 1:
		return formats[0]
	case i < len(formats):
		return formats[i]
	}
	return TextFormat
}

// Field describes a result column.
type Field struct {
	Name     string
	TableOID uint32 // 0 when the column is not a table's
	Attr     int16  // column number in that table, from 1
	Type     oid.OID
	Mod      int32 // -1 for none
	Format   int16
}
