package pgcatalog

import (
	"time"

	"skein/internal/history"
	"skein/internal/sqlstate"
)

// Session is what functions and catalog tables may ask of the session whose statement is running
// on the connection. It is called on the goroutine that runs that statement.
type Session interface {
	User() string
	Database() string
	PID() uint32
	ApplicationName() string

	// Setting gives a run-time parameter by name, in any case; false when there is no such one.
	Setting(name string) (string, bool)
	// SetSetting is set_config; local limits it to the current transaction.
	SetSetting(name, value string, local bool) error

	// Now is the start of the transaction, StatementTime that of the client's message.
	Now() time.Time
	StatementTime() time.Time
	TransactionID() int64
	// TransactionCommitted says whether a transaction of this role that was named by a token is known to be committed.
	TransactionCommitted(token string) (bool, error)

	// SequenceValue is the number that the session has last from the sequence of a table, LastSequenceValue from the one that it drew from
	// last; false if there is none. Numbered says that it has one, and whether that was drawn.
	SequenceValue(table string) (int64, bool)
	LastSequenceValue() (int64, bool)
	Numbered(table string, n int64, drawn bool)

	// AdvisoryLock takes an advisory lock; xact ties it to the transaction. With try, false means
	// that somebody else holds it; without, it waits until the lock is free or the statement is
	// cancelled.
	AdvisoryLock(key int64, shared, try, xact bool) (bool, error)
	// AdvisoryUnlock tells whether the session held the lock.
	AdvisoryUnlock(key int64, shared bool) bool
	AdvisoryUnlockAll()

	// Fail remembers the exact error behind the one that SQLite reports for this statement:
	// SQLite carries a message through an SQL function, but no SQLSTATE.
	Fail(err *sqlstate.Error)

	Cluster() Cluster
}

// Cluster is what the catalog shows that is not inside one database.
type Cluster interface {
	Databases() []Database
	Roles() []Role
	// Settings lists every run-time parameter with its current value in this session.
	Settings() []Setting
	// StoredSettings lists what ALTER DATABASE and ALTER ROLE have SET, in any order.
	StoredSettings() []StoredSettings
	// Degradations lists when commits were acknowledged without followers, the first one first.
	Degradations() []Degradation
	// DatabaseSize is in bytes, 0 when unknown.
	DatabaseSize(name string) int64
	// InRecovery is true on a follower.
	InRecovery() bool
	CurrentLSN() uint64
	// WalBytes counts what has been appended to the log since the node started.
	WalBytes() uint64
	StartTime() time.Time
	// Replication is nil on a node that takes no part in any.
	Replication() Replication
	// Failover is nil where the leader is set by configuration.
	Failover() Failover
}

// Database is one row of pg_database.
type Database struct {
	ID    history.DatabaseID
	Name  string
	Owner string // a role; empty means the bootstrap superuser
}

// Role is one row of pg_roles.
type Role struct {
	Name       string
	Superuser  bool
	CreateRole bool
	CreateDB   bool
	Login      bool
}

// StoredSettings is one row of pg_db_role_setting.
type StoredSettings struct {
	Database string   // "" for every one
	Role     string   // "" for every one
	Values   []string // name=value
}

// Degradation is one row of skein_degradations: a time in which the leader did not wait for followers.
type Degradation struct {
	Began, Ended time.Time // Ended is zero while it lasts
	From, To     history.LSN
	Commits      int64 // that the leader alone has acknowledged
	Reason       string
}

// Setting is one row of pg_settings. Empty fields get PostgreSQL's neutral values.
type Setting struct {
	Name        string
	Value       string
	Default     string
	Reset       string // what RESET gives
	Source      string // default, configuration file, database, user, database user, client, session
	Unit        string
	Category    string
	Description string
	Type        string // bool, integer, real, string or enum
	Context     string // user, superuser, postmaster, internal, …
	EnumValues  []string
}
