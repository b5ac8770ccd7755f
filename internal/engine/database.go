package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"skein/internal/history"
	"skein/internal/sqlstate"
)

// idleConns is how many unused connections a database keeps; their page caches are warm.
const idleConns = 16

var (
	errDatabaseGone = sqlstate.New(sqlstate.DatabaseDropped, "the database was dropped")
	errDatabaseEnds = sqlstate.New(sqlstate.AdminShutdown, "terminating connection because the database is being dropped")
)

// Database is one database as sessions use it: readers from a pool, one writer at a time.
type Database struct {
	Name  string
	ID    history.DatabaseID
	Owner string // a role

	uri     string
	writer  turn
	writing atomic.Uint32 // pid of the session that had the turn last, 0 for the engine itself
	warm    *conn         // the connection that wrote last: its cache is up to date; used by whoever has the turn
	schema  atomic.Uint64 // LSN of the last change of the schema, or changing; set by whoever has the turn
	slots   chan struct{}
	named   atomic.Bool // has the table of transaction tokens, for good

	mu       sync.Mutex
	idle     []*conn // last used, last in
	plans    map[planKey]*plan
	sessions int
	left     chan struct{} // one slot: a session has ended
	gone     bool
}

func newDatabase(name string, id history.DatabaseID, uri string, maxConns int) *Database {
	return &Database{Name: name, ID: id, uri: uri, slots: make(chan struct{}, maxConns), left: make(chan struct{}, 1), plans: map[planKey]*plan{}}
}

// reader gives a connection, waiting while all are in use.
func (d *Database) reader(ctx context.Context) (*conn, error) {
	select {
	case d.slots <- struct{}{}:
	default:
		select {
		case d.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if d.ended() {
		<-d.slots
		return nil, errDatabaseGone
	}
	if c := d.takeIdle(); c != nil {
		c.slot = true
		return c, nil
	}
	c, err := d.open()
	if err != nil {
		<-d.slots
		return nil, err
	}
	c.slot = true
	return c, nil
}

// yield has a reader not count any more until it is given back: what it waits for may need a reader.
func (d *Database) yield(c *conn) {
	if c.slot {
		c.slot = false
		<-d.slots
	}
}

// giveReader takes a connection back.
func (d *Database) giveReader(c *conn) {
	c.rest()
	d.yield(c)
	d.mu.Lock()
	keep := !c.broken && !d.gone && len(d.idle) < idleConns
	if keep {
		d.idle = append(d.idle, c)
	}
	d.mu.Unlock()
	if !keep {
		c.close()
	}
}

// takeWriter gives the writing connection to whoever holds the turn. Where nobody has written yet, a reader's that is
// idle becomes it: it knows the schema, of which a new one has to read all first.
func (d *Database) takeWriter() (*conn, error) {
	if d.ended() {
		return nil, errDatabaseGone
	}
	if c := d.warm; c != nil {
		d.warm = nil
		return c, nil
	}
	if c := d.takeIdle(); c != nil {
		return c, nil
	}
	return d.open()
}

// takeIdle gives a connection that nobody uses, nil if there is none.
func (d *Database) takeIdle() *conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.idle)
	if n == 0 {
		return nil
	}
	c := d.idle[n-1]
	d.idle = d.idle[:n-1]
	return c
}

// giveWriter takes it back, before the turn is given on.
func (d *Database) giveWriter(c *conn) {
	c.rest()
	if c.broken || d.ended() {
		c.close()
		return
	}
	d.warm = c
}

func (d *Database) ended() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gone
}

// shut closes the database once whoever writes has ended; its sessions get errDatabaseGone.
func (d *Database) shut(ctx context.Context) error {
	d.closeIdle()
	if err := d.writer.take(ctx); err != nil {
		return fmt.Errorf("close database %q: %w", d.Name, err)
	}
	d.closeWarm()
	return nil
}

// leaveTo closes what nobody uses, and has end see to the sessions. Each of them closes what it holds.
func (d *Database) leaveTo(end func(*Database)) {
	d.closeIdle()
	end(d)
	if d.writer.try() {
		d.closeWarm()
	}
}

func (d *Database) closeIdle() {
	d.mu.Lock()
	d.gone = true
	idle := d.idle
	d.idle = nil
	d.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

// closeWarm closes the writing connection and gives the turn on.
func (d *Database) closeWarm() {
	if d.warm != nil {
		d.warm.close()
		d.warm = nil
	}
	d.writer.give()
}

// join counts a session in, unless the database is going.
func (d *Database) join() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone {
		return errDatabaseGone
	}
	d.sessions++
	return nil
}

func (d *Database) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sessions--
	select {
	case d.left <- struct{}{}:
	default:
	}
}

// takeTurn waits for the right to write, for a session or for the engine itself.
func (d *Database) takeTurn(ctx context.Context, s *Session) error {
	if s == nil {
		err := d.writer.take(ctx)
		if err == nil {
			d.writing.Store(0)
		}
		return err
	}
	ctx, cancel := s.withLockTimeout(ctx, errTurnTimeout)
	defer cancel()
	if err := d.writer.take(ctx); err != nil {
		return err
	}
	d.writing.Store(s.out.PID())
	if s.following() { // it has waited while the leader changed
		d.writer.give()
		return s.notHere(errCeasedToLead)
	}
	return nil
}

// write runs fn on the writing connection in one transaction of the engine's own and gives its LSN, or
// that of what it stood on if it has changed nothing.
func (d *Database) write(ctx context.Context, s *Session, fn func(*conn) error) (history.LSN, error) {
	if err := d.takeTurn(ctx, s); err != nil {
		return 0, err
	}
	defer d.writer.give()
	c, err := d.takeWriter()
	if err != nil {
		return 0, err
	}
	defer d.giveWriter(c)
	c.begin(ctx, s)
	c.file.PinHead(true)
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return 0, err
	}
	if err := fn(c); err != nil {
		return 0, errors.Join(err, c.exec("ROLLBACK"))
	}
	lsn := c.file.SnapshotLSN()
	if err := c.exec("COMMIT"); err != nil {
		return 0, errors.Join(err, c.exec("ROLLBACK"))
	}
	return max(lsn, c.file.TakeCommit()), nil
}
