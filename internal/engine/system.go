package engine

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/xdg-go/scram"

	"skein/internal/commit"
	"skein/internal/dialect"
	"skein/internal/history"
	"skein/internal/pgcatalog"
	"skein/internal/sqlstate"
)

// The system database holds what belongs to the whole cluster. It is a database like the others, so
// that its changes go the same way: through the log, to every node, in order.
//
// Times are microseconds since 1970.
const systemSchema = `
CREATE TABLE IF NOT EXISTS databases (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, owner TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS roles (name TEXT PRIMARY KEY, verifier TEXT NOT NULL, login INTEGER NOT NULL, superuser INTEGER NOT NULL, createdb INTEGER NOT NULL, createrole INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS settings (database TEXT NOT NULL, role TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (database, role, name)) STRICT;
CREATE TABLE IF NOT EXISTS degradations (id INTEGER PRIMARY KEY, began INTEGER NOT NULL, ended INTEGER NOT NULL, from_lsn INTEGER NOT NULL, to_lsn INTEGER NOT NULL, commits INTEGER NOT NULL, reason TEXT NOT NULL) STRICT`

// scramIterations is PostgreSQL's scram_iterations.
const scramIterations = 4096

type role struct {
	pgcatalog.Role
	verifier string // "" for none
}

// beginSystem fills the system database of a new node, and adds what one of an older version lacks.
func (e *Engine) beginSystem(ctx context.Context) error {
	base := history.LSN(0)
	lsn, err := e.system.write(ctx, nil, func(c *conn) error {
		base = c.file.SnapshotLSN()
		begun, err := c.exists("databases")
		if err != nil {
			return err
		}
		for _, sql := range strings.Split(systemSchema, ";") {
			if err := c.exec(sql); err != nil {
				return err
			}
		}
		if begun {
			return endDegradation(c, base)
		}
		// Ids begin behind that of the system database itself.
		if err := c.query("INSERT INTO databases VALUES (?1, ?2, ?3)", nil, fmt.Sprint(history.SystemDatabase+1), DefaultDatabase, DefaultRole); err != nil {
			return err
		}
		if err := c.query("INSERT INTO databases (name, owner) VALUES (?1, ?2)", nil, "postgres", DefaultRole); err != nil {
			return err
		}
		if err := c.query("INSERT INTO roles VALUES (?1, '', 1, 1, 1, 1)", nil, DefaultRole); err != nil {
			return err
		}
		secret := make([]byte, 32)
		if _, err := rand.Read(secret); err != nil {
			return err
		}
		return c.query("INSERT INTO secrets VALUES ('mock', ?1)", nil, base64.StdEncoding.EncodeToString(secret))
	})
	if err != nil || lsn == base {
		return err
	}
	_, err = e.storage.Wait(ctx, lsn, commit.Local)
	return err
}

// systemState is what the system database says, but for what ALTER SYSTEM has set.
type systemState struct {
	databases map[string]listed
	roles     map[string]role
	stored    map[scope][]stored
	secret    []byte

	lastDatabase history.DatabaseID // highest number ever given
}

type listed struct {
	id    history.DatabaseID
	owner string
}

// readSystem runs fn on the system database in one reading transaction; not at all on a follower that has
// no copy yet. at is the oldest state that will do; head asks for the newest, committed or not. The
// connection is for once: what its cache has seen of the head may be taken back.
func (e *Engine) readSystem(ctx context.Context, at history.LSN, head bool, fn func(*conn) error) error {
	c, err := e.system.open()
	if err != nil {
		return err
	}
	defer c.close()
	c.begin(ctx, nil)
	c.file.PinHead(head)
	c.file.SetFloor(at)
	if err := c.exec("BEGIN"); err != nil {
		return err
	}
	begun, err := c.exists("settings")
	if err == nil && begun {
		err = fn(c)
	}
	return errors.Join(err, c.exec("ROLLBACK"))
}

// readState reads the state at or after an LSN. A leader that cannot show any yet, because no follower
// has answered since it started, goes by its newest: somebody must be able to log in.
func (e *Engine) readState(ctx context.Context, at history.LSN) (systemState, error) {
	st := systemState{databases: map[string]listed{}, roles: map[string]role{}, stored: map[scope][]stored{}}
	err := e.readSystem(ctx, at, false, st.read)
	if err == nil && len(st.roles) == 0 && e.storage.Leads() != 0 {
		err = e.readSystem(ctx, at, true, st.read)
	}
	return st, err
}

func (st *systemState) read(c *conn) error {
	if err := c.query("SELECT name, verifier, login, superuser, createdb, createrole FROM roles", func(row *sqlite3.Stmt) {
		r := role{pgcatalog.Role{Name: row.ColumnText(0), Login: row.ColumnBool(2), Superuser: row.ColumnBool(3), CreateDB: row.ColumnBool(4), CreateRole: row.ColumnBool(5)}, row.ColumnText(1)}
		st.roles[r.Name] = r
	}); err != nil {
		return err
	}
	if err := c.query("SELECT id, name, owner FROM databases", func(row *sqlite3.Stmt) {
		st.databases[row.ColumnText(1)] = listed{history.DatabaseID(row.ColumnInt64(0)), row.ColumnText(2)}
	}); err != nil {
		return err
	}
	if err := c.query("SELECT database, role, name, value FROM settings WHERE database <> '' OR role <> '' ORDER BY name", func(row *sqlite3.Stmt) {
		at := scope{row.ColumnText(0), row.ColumnText(1)}
		st.stored[at] = append(st.stored[at], stored{row.ColumnText(2), row.ColumnText(3)})
	}); err != nil {
		return err
	}
	if err := c.query("SELECT seq FROM sqlite_sequence WHERE name = 'databases'", func(row *sqlite3.Stmt) {
		st.lastDatabase = history.DatabaseID(row.ColumnInt64(0))
	}); err != nil {
		return err
	}
	return c.query("SELECT value FROM secrets WHERE name = 'mock'", func(row *sqlite3.Stmt) {
		st.secret, _ = base64.StdEncoding.DecodeString(row.ColumnText(0))
	})
}

// errNobody is for a state that cannot be: somebody has made it, and nobody may drop himself.
var errNobody = errors.New("read databases and roles: there are none any more")

// loadSystem makes the engine's databases and roles those of the system database as everybody sees it,
// or as it was left by the change at an LSN.
func (e *Engine) loadSystem(ctx context.Context, at history.LSN) error {
	e.loading.Lock()
	defer e.loading.Unlock()
	visible := e.storage.Visible()
	st, err := e.readState(ctx, at)
	if err != nil {
		return fmt.Errorf("read databases and roles: %w", err)
	}
	if len(st.roles) == 0 && e.begun() { // what is not listed is dropped
		return errNobody
	}
	gone, err := e.take(st)
	for _, d := range gone {
		e.retire(d)
	}
	if err != nil {
		return err
	}
	if e.storage.Leads() == 0 {
		e.dropUnseen(st)
	}
	e.unread.read(max(at, visible))
	return nil
}

// dropUnseen drops databases that came and went between two looks of a follower at the system database, so
// that it never knew of them. Their numbers have been given, and numbers are not given twice; one that
// is higher may be listed by what is not visible yet.
func (e *Engine) dropUnseen(st systemState) {
	listed := map[history.DatabaseID]bool{history.SystemDatabase: true}
	for _, d := range st.databases {
		listed[d.id] = true
	}
	for _, id := range e.storage.IDs() {
		if id <= st.lastDatabase && !listed[id] {
			e.storage.Drop(id)
		}
	}
}

// take makes a state the engine's own and gives the databases that it does not list any more.
func (e *Engine) take(st systemState) (gone []*Database, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.roles, e.stored, e.secret = st.roles, st.stored, st.secret
	for name, d := range e.databases {
		if st.databases[name].id != d.ID {
			delete(e.databases, name)
			delete(e.schemas, d.ID)
			gone = append(gone, d)
		}
	}
	for name, l := range st.databases {
		if e.databases[name] != nil {
			continue
		}
		if err := e.storage.Create(l.id); err != nil {
			return gone, err
		}
		d := newDatabase(name, l.id, e.storage.URI(l.id), e.options.MaxConns)
		d.Owner = l.owner
		// What the log holds above the visible LSN may change the schema unseen.
		d.schema.Store(uint64(max(e.schemas[l.id], e.storage.Head())))
		if e.paused != nil {
			d.writer.try()
			e.paused.databases = append(e.paused.databases, d)
		}
		e.databases[name] = d
	}
	return gone, nil
}

// retire lets a database go that is not listed any more. Who still uses it is told.
func (e *Engine) retire(d *Database) {
	d.leaveTo(e.endSessions)
	e.storage.Drop(d.ID)
}

// reload reads the whole system database. What it could not read stays unread: loadSystem, which crosses
// that out, comes last.
func (e *Engine) reload(ctx context.Context) error {
	if err := e.loadCluster(ctx); err != nil {
		return err
	}
	return e.loadSystem(ctx, 0)
}

// unread are the changes of the system database that the engine has not read: what came from elsewhere, and what nobody waited for to the end.
type unread struct {
	mu          sync.Mutex
	first, last history.LSN // 0 for none; between them may be what was read, or cut from the log
}

func (u *unread) add(lsn history.LSN) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.first == 0 || lsn < u.first {
		u.first = lsn
	}
	u.last = max(u.last, lsn)
}

// read crosses out those up to an entry.
func (u *unread) read(lsn history.LSN) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last <= lsn {
		u.first, u.last = 0, 0
	} else if u.first != 0 {
		u.first = max(u.first, lsn+1)
	}
}

// any says whether there are some that readers see, up to an entry.
func (u *unread) any(visible history.LSN) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.first != 0 && u.first <= visible
}

// catchUp reads what has changed in the system database as readers see it: who shows some of it calls this first.
func (e *Engine) catchUp() {
	if !e.unread.any(e.storage.Visible()) {
		return
	}
	if err := e.reload(context.Background()); err != nil {
		e.options.Logger.Error("databases, roles and settings are not up to date", "error", err)
	}
}

// database finds a database by name, or nil.
func (e *Engine) database(name string) *Database {
	e.catchUp()
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.databases[name]
}

// writeSystem runs one change of the system database and gives its LSN.
func (s *Session) writeSystem(ctx context.Context, fn func(*conn) error) (history.LSN, error) {
	switch {
	case s.tx.block || s.tx.conn != nil:
		return 0, sqlstate.New(sqlstate.ActiveTransaction, "databases and roles cannot be changed inside a transaction block")
	case s.readOnly():
		return 0, s.refuseWrite()
	}
	if err := s.unnameable(); err != nil {
		return 0, err
	}
	lsn, err := s.engine.system.write(ctx, s, fn)
	if err == nil {
		s.engine.unread.add(lsn)
	}
	return lsn, err
}

// changeSystem runs one change of the system database and waits until everybody sees it: databases and
// roles are the cluster's, so that the session's own level may ask for more, but not for less.
func (s *Session) changeSystem(ctx context.Context, fn func(*conn) error) error {
	lsn, err := s.writeSystem(ctx, fn)
	if err != nil {
		return err
	}
	if err := s.await(ctx, lsn, max(s.level(), s.engine.cluster.Load().level())); err != nil {
		return err
	}
	s.committed(lsn, s.causality)
	return s.engine.loadSystem(context.WithoutCancel(ctx), lsn) // it is done, so that a cancel comes too late
}

// raise makes a watermark v, unless it is higher already.
func raise(mark *atomic.Uint64, v uint64) {
	for {
		old := mark.Load()
		if old >= v || mark.CompareAndSwap(old, v) {
			return
		}
	}
}

func (s *Session) createDatabase(ctx context.Context, d *dialect.DatabaseStmt) error {
	if err := checkName(d.Name); err != nil {
		return err
	}
	e := s.engine
	if self, _ := e.role(s.user); !self.Superuser && !self.CreateDB {
		return sqlstate.New(sqlstate.InsufficientPrivilege, "permission denied to create database")
	}
	if e.database(d.Name) != nil {
		return sqlstate.New(sqlstate.DuplicateDatabase, "database %q already exists", d.Name)
	}
	if d.Encoding != "" && !strings.EqualFold(strings.ReplaceAll(d.Encoding, "-", ""), "UTF8") {
		return sqlstate.New(sqlstate.FeatureNotSupported, "encoding %q is not supported: every database is UTF8", d.Encoding)
	}
	var id history.DatabaseID
	return s.changeSystem(ctx, func(c *conn) error {
		err := c.query("INSERT INTO databases (name, owner) VALUES (?1, ?2)", nil, d.Name, s.user)
		if errors.Is(err, sqlite3.CONSTRAINT_UNIQUE) { // another session was faster
			return sqlstate.New(sqlstate.DuplicateDatabase, "database %q already exists", d.Name)
		}
		if err != nil {
			return err
		}
		id = history.DatabaseID(c.sqlite.LastInsertRowID())
		return e.storage.Create(id)
	})
}

func (s *Session) dropDatabase(ctx context.Context, d *dialect.DatabaseStmt) error {
	e := s.engine
	target := e.database(d.Name)
	switch {
	case target == nil && d.IfExists:
		s.out.Notice(sqlstate.New(sqlstate.SuccessfulCompletion, "database %q does not exist, skipping", d.Name))
		return nil
	case target == nil:
		return sqlstate.New(sqlstate.InvalidDatabaseName, "database %q does not exist", d.Name)
	case target == s.db:
		return sqlstate.New(sqlstate.ObjectInUse, "cannot drop the currently open database")
	}
	if self, _ := e.role(s.user); !self.Superuser && target.Owner != s.user {
		return sqlstate.New(sqlstate.InsufficientPrivilege, "must be owner of database %s", d.Name)
	}
	if s.readOnly() {
		return s.refuseWrite()
	}
	if err := e.detach(ctx, target, d.Force); err != nil {
		return err
	}
	// Nothing may be written to it behind its end in the log.
	shutting, cancel := s.withLockTimeout(ctx, errTurnTimeout)
	err := target.shut(shutting)
	cancel()
	if err == nil {
		err = s.changeSystem(ctx, func(c *conn) error {
			if err := c.query("DELETE FROM settings WHERE database = ?1", nil, d.Name); err != nil {
				return err
			}
			return c.query("DELETE FROM databases WHERE name = ?1", nil, d.Name)
		})
	}
	var unknown *sqlstate.Error
	if err != nil && !(errors.As(err, &unknown) && unknown.Code == sqlstate.TransactionUnknown) {
		target.attach()
	}
	return err
}

// detach keeps new sessions out of a database; those in it make it fail, unless force ends them. It waits
// a little, because a client does not know when the session that it has left has ended.
func (e *Engine) detach(ctx context.Context, d *Database, force bool) error {
	patience := time.After(e.options.DropWait)
	for !force && !d.closeIfUnused() {
		select {
		case <-d.left:
			continue
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-patience:
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		return sqlstate.New(sqlstate.ObjectInUse, "database %q is being accessed by other users", d.Name).
			WithDetail("There are %d other sessions using the database.", d.sessions).
			WithHint("Use DROP DATABASE … WITH (FORCE) to end them.")
	}
	d.mu.Lock()
	d.gone = true
	d.mu.Unlock()
	e.endSessions(d)
	return nil
}

// endSessions ends the sessions in a database that takes no new ones.
func (e *Engine) endSessions(d *Database) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, s := range e.sessions {
		if s.db == d {
			s.out.Terminate(errDatabaseEnds)
		}
	}
}

func (d *Database) closeIfUnused() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = d.gone || d.sessions == 0
	return d.sessions == 0
}

func (d *Database) attach() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = false
}

func checkName(name string) error {
	if name == "" || len(name) > 63 {
		return sqlstate.New(sqlstate.InvalidName, "name %q must have 1 to 63 bytes", name)
	}
	return nil
}

// Roles.

func (e *Engine) role(name string) (role, bool) {
	e.catchUp()
	e.mu.RLock()
	defer e.mu.RUnlock()
	r, ok := e.roles[name]
	return r, ok
}

// Verifier gives a role's SCRAM verifier.
func (e *Engine) Verifier(name string) (string, bool) {
	r, ok := e.role(name)
	return r.verifier, ok && r.Login && r.verifier != ""
}

// MockSecret makes the answers for unknown roles.
func (e *Engine) MockSecret() []byte {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.secret
}

func (s *Session) createRole(ctx context.Context, r *dialect.RoleStmt) error {
	if err := checkName(r.Name); err != nil {
		return err
	}
	if _, exists := s.engine.role(r.Name); exists {
		return sqlstate.New(sqlstate.DuplicateObject, "role %q already exists", r.Name)
	}
	return s.putRole(ctx, role{Role: pgcatalog.Role{Name: r.Name}}, r)
}

func (s *Session) alterRole(ctx context.Context, r *dialect.RoleStmt) error {
	if r.Name == "current_user" || r.Name == "session_user" {
		r.Name = s.user
	}
	old, exists := s.engine.role(r.Name)
	if !exists {
		return sqlstate.New(sqlstate.UndefinedObject, "role %q does not exist", r.Name)
	}
	if r.NewName != "" {
		return sqlstate.New(sqlstate.FeatureNotSupported, "renaming a role is not supported")
	}
	return s.putRole(ctx, old, r)
}

func (s *Session) putRole(ctx context.Context, r role, st *dialect.RoleStmt) error {
	if err := s.mayChangeRoles(); err != nil {
		return err
	}
	for _, o := range []struct {
		choice dialect.Choice
		field  *bool
	}{{st.Login, &r.Login}, {st.Superuser, &r.Superuser}, {st.CreateDB, &r.CreateDB}, {st.CreateRole, &r.CreateRole}} {
		if o.choice != dialect.Unset {
			*o.field = o.choice == dialect.On
		}
	}
	if st.HasPassword {
		v, err := verifier(st.Name, st.Password)
		if err != nil {
			return err
		}
		r.verifier = v
	}
	return s.changeSystem(ctx, func(c *conn) error {
		return c.query("INSERT OR REPLACE INTO roles VALUES (?1, ?2, CAST(?3 AS INTEGER), CAST(?4 AS INTEGER), CAST(?5 AS INTEGER), CAST(?6 AS INTEGER))", nil,
			r.Name, r.verifier, digit(r.Login), digit(r.Superuser), digit(r.CreateDB), digit(r.CreateRole))
	})
}

func digit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// verifier makes what is stored instead of a password. One that is stored already is taken as it is.
func verifier(user, password string) (string, error) {
	if password == "" {
		return "", nil
	}
	if isVerifier(password) {
		return password, nil
	}
	client, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		return "", sqlstate.New(sqlstate.InvalidParameterValue, "the password cannot be used: %v", err)
	}
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	k, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: scramIterations})
	if err != nil {
		return "", err
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, b64(salt), b64(k.StoredKey), b64(k.ServerKey)), nil
}

// owner says whether a role owns a database.
func (e *Engine) owner(role string) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, d := range e.databases {
		if d.Owner == role {
			return true
		}
	}
	return false
}

// isVerifier says whether a password is a verifier in full: with less, nobody could ever log in.
func isVerifier(password string) bool {
	rest, ok := strings.CutPrefix(password, "SCRAM-SHA-256$")
	factors, keys, ok2 := strings.Cut(rest, "$")
	iterations, salt, ok3 := strings.Cut(factors, ":")
	stored, server, ok4 := strings.Cut(keys, ":")
	n, err := strconv.Atoi(iterations)
	if !(ok && ok2 && ok3 && ok4) || err != nil || n < 1 {
		return false
	}
	decoded := func(text string) int {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return 0
		}
		return len(b)
	}
	return decoded(salt) > 0 && decoded(stored) == sha256.Size && decoded(server) == sha256.Size
}

func (s *Session) mayChangeRoles() error {
	if self, _ := s.engine.role(s.user); !self.Superuser && !self.CreateRole {
		return sqlstate.New(sqlstate.InsufficientPrivilege, "permission denied to create, change or drop roles")
	}
	return nil
}

// dropRoles drops all of the roles or none.
func (s *Session) dropRoles(ctx context.Context, names []string, ifExists bool) error {
	if err := s.mayChangeRoles(); err != nil {
		return err
	}
	for _, name := range names {
		_, exists := s.engine.role(name)
		switch {
		case !exists && ifExists:
			s.out.Notice(sqlstate.New(sqlstate.SuccessfulCompletion, "role %q does not exist, skipping", name))
		case !exists:
			return sqlstate.New(sqlstate.UndefinedObject, "role %q does not exist", name)
		case name == s.user:
			return sqlstate.New(sqlstate.ObjectInUse, "current user cannot be dropped")
		case name == DefaultRole:
			return sqlstate.New(sqlstate.DependentObjects, "cannot drop role %s because it is required by the database system", name)
		case s.engine.owner(name):
			return sqlstate.New(sqlstate.DependentObjects, "role %q cannot be dropped because some objects depend on it", name).
				WithDetail("It owns a database.")
		}
	}
	return s.changeSystem(ctx, func(c *conn) error {
		for _, name := range names {
			if err := c.query("DELETE FROM settings WHERE role = ?1", nil, name); err != nil {
				return err
			}
			if err := c.query("DELETE FROM roles WHERE name = ?1", nil, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// What the catalog shows of the cluster.

type cluster struct{ s *Session }

func (c cluster) Databases() []pgcatalog.Database {
	e := c.s.engine
	e.catchUp()
	e.mu.RLock()
	defer e.mu.RUnlock()
	var all []pgcatalog.Database
	for name, d := range e.databases {
		all = append(all, pgcatalog.Database{ID: d.ID, Name: name, Owner: d.Owner})
	}
	slices.SortFunc(all, func(a, b pgcatalog.Database) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (c cluster) Roles() []pgcatalog.Role {
	e := c.s.engine
	e.catchUp()
	e.mu.RLock()
	defer e.mu.RUnlock()
	var all []pgcatalog.Role
	for _, r := range e.roles {
		all = append(all, r.Role)
	}
	slices.SortFunc(all, func(a, b pgcatalog.Role) int { return strings.Compare(a.Name, b.Name) })
	return all
}
