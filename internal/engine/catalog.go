package engine

import (
	"strings"
	"time"

	"skein/internal/pgcatalog"
	"skein/internal/sqlstate"
)

// asked is a Session as SQL functions and catalog tables see it.
type asked struct {
	*Session
	conn *conn // that runs its statement
}

// User is the role.
func (a asked) User() string { return a.user }

// Database is the name of the database.
func (a asked) Database() string { return a.db.Name }

// PID is the number that cancel requests name.
func (a asked) PID() uint32 { return a.out.PID() }

// ApplicationName is what the client calls itself.
func (a asked) ApplicationName() string { return a.settings.get("application_name") }

// Setting is current_setting.
func (a asked) Setting(name string) (string, bool) { return a.show(name) }

// SetSetting is set_config.
func (a asked) SetSetting(name, value string, local bool) error { return a.set(name, value, local) }

// Now is the start of the transaction.
func (a asked) Now() time.Time {
	if a.tx.open() {
		return a.tx.started
	}
	return a.began
}

// StatementTime is the arrival of the client's message.
func (a asked) StatementTime() time.Time { return a.began }

// TransactionID is txid_current.
func (a asked) TransactionID() int64 {
	if a.tx.open() {
		return a.tx.id
	}
	return a.engine.nextTransaction()
}

// TransactionCommitted is skein_transaction_status.
func (a asked) TransactionCommitted(token string) (bool, error) { return a.hasCommitted(a.conn, token) }

// SequenceValue is currval.
func (a asked) SequenceValue(table string) (int64, bool) {
	n, ok := a.numbers.of[strings.ToLower(table)]
	return n, ok
}

// LastSequenceValue is lastval.
func (a asked) LastSequenceValue() (int64, bool) { return a.SequenceValue(a.numbers.drawn) }

// Numbered takes note of nextval and setval.
func (a asked) Numbered(table string, n int64, drawn bool) { a.numbers.note(table, n, drawn) }

// AdvisoryLock is pg_advisory_lock and its kin.
func (a asked) AdvisoryLock(key int64, shared, try, xact bool) (bool, error) {
	if a.following() {
		return false, a.notHere(errLocksElsewhere)
	}
	a.lockedForTransaction = a.lockedForTransaction || xact
	a.locked = a.locked || !xact
	if a.engine.locks.try(a.Session, key, shared, xact) == nil {
		return true, nil
	}
	if try {
		return false, nil
	}
	// Whoever holds the lock needs a connection to give it back.
	a.db.yield(a.conn)
	ctx, cancel := a.withLockTimeout(a.message, errLockTimeout)
	defer cancel()
	err := a.engine.locks.take(ctx, a.Session, key, shared, xact)
	return err == nil, err
}

// releaseLocks gives back the advisory locks of the transaction that ends.
func (s *Session) releaseLocks() {
	if s.lockedForTransaction {
		s.lockedForTransaction = false
		s.engine.locks.releaseTransaction(s)
	}
}

// AdvisoryUnlock is pg_advisory_unlock.
func (a asked) AdvisoryUnlock(key int64, shared bool) bool {
	held := a.engine.locks.release(a.Session, key, shared)
	if !held {
		a.out.Notice(errUnlockNotHeld)
	}
	return held
}

// AdvisoryUnlockAll is pg_advisory_unlock_all.
func (a asked) AdvisoryUnlockAll() { a.engine.locks.releaseSession(a.Session) }

// Fail remembers the error behind the one that SQLite is about to report.
func (a asked) Fail(err *sqlstate.Error) { a.failure = err }

// Cluster is what is not inside one database.
func (a asked) Cluster() pgcatalog.Cluster { return cluster{a.Session} }

func (c cluster) Settings() []pgcatalog.Setting { return c.s.allSettings() }

func (c cluster) DatabaseSize(name string) int64 {
	c.s.engine.mu.RLock()
	defer c.s.engine.mu.RUnlock()
	if d := c.s.engine.databases[name]; d != nil {
		return c.s.engine.storage.SizeBytes(d.ID)
	}
	return 0
}

func (c cluster) InRecovery() bool     { return c.s.following() }
func (c cluster) CurrentLSN() uint64   { return uint64(c.s.engine.storage.Visible()) }
func (c cluster) WalBytes() uint64     { return uint64(c.s.engine.storage.LogBytes()) }
func (c cluster) StartTime() time.Time { return c.s.engine.started }

func (c cluster) Replication() pgcatalog.Replication { return c.s.engine.options.Replication }

func (c cluster) Failover() pgcatalog.Failover { return c.s.engine.options.Failover }

// nobody is asked when the engine itself runs a statement.
var nobody pgcatalog.Session = asked{Session: &Session{}}
