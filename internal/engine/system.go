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
const systemSchema = `
CREATE TABLE databases (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, owner TEXT NOT NULL) STRICT;
CREATE TABLE roles (name TEXT PRIMARY KEY, verifier TEXT NOT NULL, login INTEGER NOT NULL, superuser INTEGER NOT NULL, createdb INTEGER NOT NULL, createrole INTEGER NOT NULL) STRICT;
CREATE TABLE secrets (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT`

// scramIterations is PostgreSQL's scram_iterations.
const scramIterations = 4096

type role struct {
	pgcatalog.Role
	verifier string // "" for none
}

// beginSystem fills the system database of a new node.
func (e *Engine) beginSystem(ctx context.Context) error {
	lsn, err := e.system.write(ctx, nil, func(c *conn) error {
		begun := false
		if err := c.query("SELECT 1 FROM sqlite_schema WHERE name = 'databases'", func(*sqlite3.Stmt) { begun = true }); err != nil || begun {
			return err
		}
		for _, sql := range strings.Split(systemSchema, ";") {
			if err := c.exec(sql); err != nil {
				return err
			}
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
	if err != nil {
		return err
	}
	_, err = e.storage.Wait(ctx, lsn, commit.Local)
	return err
}

// loadSystem reads databases, roles and the secret.
func (e *Engine) loadSystem(ctx context.Context) error {
	c, err := e.system.reader(ctx)
	if err != nil {
		return err
	}
	defer e.system.giveReader(c)
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.roles)
	if err := c.query("SELECT name, verifier, login, superuser, createdb, createrole FROM roles", func(st *sqlite3.Stmt) {
		r := role{pgcatalog.Role{Name: st.ColumnText(0), Login: st.ColumnBool(2), Superuser: st.ColumnBool(3), CreateDB: st.ColumnBool(4), CreateRole: st.ColumnBool(5)}, st.ColumnText(1)}
		e.roles[r.Name] = r
	}); err != nil {
		return err
	}
	if err := c.query("SELECT id, name, owner FROM databases", func(st *sqlite3.Stmt) {
		id, name := history.DatabaseID(st.ColumnInt64(0)), st.ColumnText(1)
		if d := e.databases[name]; d == nil || d.ID != id {
			e.databases[name] = newDatabase(name, id, e.storage.URI(id), e.options.MaxConns)
			e.databases[name].Owner = st.ColumnText(2)
		}
	}); err != nil {
		return err
	}
	return c.query("SELECT value FROM secrets WHERE name = 'mock'", func(st *sqlite3.Stmt) {
		e.secret, _ = base64.StdEncoding.DecodeString(st.ColumnText(0))
	})
}

// changeSystem runs one change of the system database and waits until it is committed.
func (s *Session) changeSystem(ctx context.Context, fn func(*conn) error) error {
	switch {
	case s.tx.block || s.tx.conn != nil:
		return sqlstate.New(sqlstate.ActiveTransaction, "databases and roles cannot be changed inside a transaction block")
	case s.readOnly():
		return s.refuseWrite()
	}
	lsn, err := s.engine.system.write(ctx, s, fn)
	if err != nil {
		return err
	}
	if err := s.await(ctx, lsn, s.level()); err != nil {
		return err
	}
	return s.engine.loadSystem(ctx)
}

func (s *Session) createDatabase(ctx context.Context, d *dialect.DatabaseStmt) error {
	if err := checkName(d.Name); err != nil {
		return err
	}
	e := s.engine
	if self, _ := e.role(s.user); !self.Superuser && !self.CreateDB {
		return sqlstate.New(sqlstate.InsufficientPrivilege, "permission denied to create database")
	}
	e.mu.RLock()
	exists := e.databases[d.Name] != nil
	e.mu.RUnlock()
	if exists {
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
	e.mu.RLock()
	target := e.databases[d.Name]
	e.mu.RUnlock()
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
	if err := e.detach(ctx, target, d.Force); err != nil {
		return err
	}
	if err := s.changeSystem(ctx, func(c *conn) error {
		return c.query("DELETE FROM databases WHERE name = ?1", nil, d.Name)
	}); err != nil {
		target.attach()
		return err
	}
	e.mu.Lock()
	delete(e.databases, d.Name)
	e.mu.Unlock()
	if err := target.shut(ctx); err != nil {
		return err
	}
	e.storage.Drop(target.ID)
	return nil
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
	defer d.mu.Unlock()
	d.gone = true
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, s := range e.sessions {
		if s.db == d {
			s.out.Terminate(sqlstate.New(sqlstate.AdminShutdown, "terminating connection because the database is being dropped"))
		}
	}
	return nil
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
	e.mu.RLock()
	defer e.mu.RUnlock()
	var all []pgcatalog.Role
	for _, r := range e.roles {
		all = append(all, r.Role)
	}
	slices.SortFunc(all, func(a, b pgcatalog.Role) int { return strings.Compare(a.Name, b.Name) })
	return all
}
