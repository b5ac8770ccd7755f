// Package engine runs SQL: it gives each client a Session, sessions SQLite connections, and
// transactions PostgreSQL's behaviour. Its nouns: an Engine is one node's SQL; a Database is a pool
// of readers and one writer's turn; a conn is one SQLite connection; a plan is what is known of a
// statement before it runs; a portal is a statement with its parameters.
//
// A session is used from its client's goroutine. It holds a connection only while a statement or a
// transaction of its own needs one. Nothing of a session survives a crash; what a COMMIT has
// acknowledged does, as far as synchronous_commit asks.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"skein/internal/commit"
	"skein/internal/dialect"
	"skein/internal/history"
	"skein/internal/pgcatalog"
	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

// ServerVersion is what clients take for PostgreSQL's version.
const ServerVersion = "15.0 (Skein)"

// DefaultDatabase and DefaultRole are made with a new node.
const (
	DefaultDatabase = "skein"
	DefaultRole     = "skein"
)

// Storage is what the engine needs of the node below it.
type Storage interface {
	// URI gives what sqlite3.Open takes for a connection to a database.
	URI(history.DatabaseID) string
	Create(history.DatabaseID) error
	Drop(history.DatabaseID)
	IDs() []history.DatabaseID
	SizeBytes(history.DatabaseID) int64
	// LogBytes counts what has been appended to the log since it was opened.
	LogBytes() int64
	// Wait returns once an entry has reached the level. alone says that followers should have answered
	// for it and the leader has done so by itself, in degraded mode. With an error the outcome is unknown.
	// At the level Off it does not wait, but has the entry made durable soon.
	Wait(ctx context.Context, lsn history.LSN, level commit.Level) (alone bool, err error)
	Visible() history.LSN
	// Await returns once Visible has reached an entry, or with the error of ctx.
	Await(ctx context.Context, lsn history.LSN) error
	// Flushed is the newest entry that is on the disk.
	Flushed() history.LSN
	// Epochs says where each leadership began whose entries the log has.
	Epochs() history.Epochs
	// Head is the newest entry of the log, committed or not.
	Head() history.LSN
	Checkpoint() error
	// Leads is the epoch that the node leads; 0 while it follows another: then only what arrives from there is written.
	Leads() history.Epoch
	// Cluster is the beginning of the cluster's id, as bookmarks have it.
	Cluster() [4]byte
	// Configure gives the rule by which a commit is acknowledged; it holds at once.
	Configure(commit.SyncConfig)
}

// Options of an engine.
type Options struct {
	MaxConns  int           // SQLite connections per database, besides the writer's; 0: 64
	DropWait  time.Duration // how long DROP DATABASE waits for sessions that are ending; 0: 5 s
	Logger    *slog.Logger  // nil: nothing is logged
	MaxTokens int           // transaction tokens that a database remembers; 0: a million
	// OnSettings is told the cluster's settings that are not those of sessions: all of them, by name in
	// lower case, durations in milliseconds, sizes in bytes, with its default where one was not set. It
	// is called by Open and with every change, one call at a time, and must not call the engine.
	OnSettings func(map[string]string)
	// OnCommit is told of a commit that was made under a causality key, once that is acknowledged and before its client
	// hears of it; nil: nobody asks. It is called by many sessions at once.
	OnCommit func(key string, lsn history.LSN)
	// Replication is what the catalog shows of the streaming between nodes; nil: this node stands alone.
	Replication pgcatalog.Replication
	// Failover is the cluster that appoints its leader; nil: the leader is set by configuration.
	Failover pgcatalog.Failover
}

// Engine is the SQL of one node. It implements pgwire.Handler.
type Engine struct {
	storage Storage
	options Options
	started time.Time
	system  *Database
	hollow  *Database // of an engine without data; nil for others
	locks   *advisoryLocks
	parsed  parseCache
	lastTxn atomic.Int64

	epoch     atomic.Uint64 // that this engine writes in; 0 while it has not begun to
	drafts    drafts
	pausing   turn                            // of PauseWrites
	loading   sync.Mutex                      // taken before mu, by who reads the system database: it is read in order
	cluster   atomic.Pointer[clusterSettings] // what ALTER SYSTEM has set
	unread    unread
	inherited atomic.Uint64 // newest entry of the log when this node began to lead

	mu        sync.RWMutex
	databases map[string]*Database
	roles     map[string]role
	stored    map[scope][]stored // by ALTER DATABASE and ALTER ROLE
	secret    []byte
	sessions  map[uint32]*Session
	schemas   map[history.DatabaseID]history.LSN // last change of a schema that arrived from elsewhere
	paused    *pause                             // in force or on its way; nil for none
}

// Open reads the system database, and with it databases, roles and settings; a leader makes it on a new
// node. On a follower without a copy of it nobody can log in until Replicated tells of one.
func Open(ctx context.Context, storage Storage, o Options) (*Engine, error) {
	if o.MaxConns == 0 {
		o.MaxConns = 64
	}
	if o.MaxTokens == 0 {
		o.MaxTokens = 1_000_000
	}
	if o.DropWait == 0 {
		o.DropWait = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		storage: storage, options: o, started: time.Now(), locks: newAdvisoryLocks(),
		databases: map[string]*Database{}, sessions: map[uint32]*Session{}, schemas: map[history.DatabaseID]history.LSN{},
	}
	if err := storage.Create(history.SystemDatabase); err != nil {
		return nil, err
	}
	e.system = newDatabase("", history.SystemDatabase, storage.URI(history.SystemDatabase), 4)
	if err := e.begin(ctx); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // SQLite would call it an interrupt
		}
		return nil, errors.Join(fmt.Errorf("open system database: %w", err), e.Close(context.WithoutCancel(ctx)))
	}
	return e, nil
}

// begin goes in this order: the rule of acknowledging decides what everybody sees, and so which databases
// and roles there are.
func (e *Engine) begin(ctx context.Context) error {
	epoch := e.storage.Leads()
	if epoch != 0 {
		if err := e.beginSystem(ctx); err != nil {
			return err
		}
	}
	head := e.storage.Head()
	e.unread.add(head)
	if epoch != 0 {
		e.inherited.Store(uint64(head))
	}
	if err := e.reload(ctx); err != nil {
		return err
	}
	if err := e.reconcile(ctx); err != nil {
		return err
	}
	e.epoch.Store(uint64(epoch))
	return nil
}

// reconcile drops the store's databases that the system database does not list, neither as everybody sees
// it nor at its newest: a crash may have come between the two. One whose end is in the log already, and not yet
// acknowledged, lets nobody in: nothing may be written to it behind that.
func (e *Engine) reconcile(ctx context.Context) error {
	newest := systemState{databases: map[string]listed{}, roles: map[string]role{}, stored: map[scope][]stored{}}
	if err := e.readSystem(ctx, 0, true, newest.read); err != nil {
		return err
	}
	listed := map[history.DatabaseID]bool{history.SystemDatabase: true}
	for _, d := range newest.databases {
		listed[d.id] = true
	}
	e.mu.RLock()
	known := slices.Collect(maps.Values(e.databases))
	e.mu.RUnlock()
	for _, d := range known {
		if !listed[d.ID] {
			d.closeIdle()
		}
		listed[d.ID] = true
	}
	for _, id := range e.storage.IDs() {
		if !listed[id] {
			e.storage.Drop(id)
		}
	}
	return nil
}

// Close closes every connection to SQLite. Every session has ended.
func (e *Engine) Close(ctx context.Context) error {
	err := e.system.shut(ctx)
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, d := range e.databases {
		err = errors.Join(err, d.shut(ctx))
	}
	return err
}

// Connect opens a session.
func (e *Engine) Connect(_ context.Context, out *pgwire.Conn, st pgwire.Startup) (pgwire.Session, error) {
	s, err := e.connect(out, st)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Open is Connect for those who need to know more of a session.
func (e *Engine) Open(out *pgwire.Conn, st pgwire.Startup) (*Session, error) {
	return e.connect(out, st)
}

// admit finds the role and the database of a session.
func (e *Engine) admit(st pgwire.Startup) (role, *Database, error) {
	if e.hollow != nil {
		return role{}, e.hollow, nil
	}
	r, ok := e.role(st.User)
	if !e.begun() {
		return r, nil, errNoCopy
	}
	if !ok {
		return r, nil, sqlstate.New(sqlstate.InvalidAuthorization, "role %q does not exist", st.User)
	}
	if !r.Login {
		return r, nil, sqlstate.New(sqlstate.InvalidAuthorization, "role %q is not permitted to log in", st.User)
	}
	d := e.database(st.Database)
	if d == nil {
		return r, nil, sqlstate.New(sqlstate.InvalidDatabaseName, "database %q does not exist", st.Database)
	}
	return r, d, nil
}

func (e *Engine) connect(out *pgwire.Conn, st pgwire.Startup) (*Session, error) {
	r, d, err := e.admit(st)
	if err != nil {
		return nil, err
	}
	if err := d.join(); err != nil {
		return nil, err
	}
	s := &Session{
		engine: e, db: d, out: out, user: st.User, startup: map[string]first{}, standby: e.follows(), began: time.Now(),
		statements: map[string]*prepared{}, portals: map[string]*portal{}, cursors: map[string]*portal{},
	}
	s.settings.put("session_authorization", st.User)
	s.settings.put("is_superuser", onOff(r.Superuser))
	s.clusterSettings()
	s.storedSettings()
	if err := s.startupSettings(st.Params); err != nil {
		d.leave()
		return nil, err
	}
	e.mu.Lock()
	e.sessions[out.PID()] = s
	e.mu.Unlock()
	s.wait()
	return s, nil
}

func (e *Engine) leave(s *Session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sessions, s.out.PID())
}

// startupSettings applies the settings of the startup packet, "options" with its -c name=value too.
func (s *Session) startupSettings(params map[string]string) error {
	for name, value := range params {
		name = strings.ToLower(name)
		if name == "replication" {
			return sqlstate.New(sqlstate.FeatureNotSupported, "PostgreSQL's replication protocol is not supported")
		}
		if name == "options" {
			if err := s.startupOptions(value); err != nil {
				return err
			}
			continue
		}
		if parameters[name] == nil && !strings.Contains(name, ".") {
			continue // PostgreSQL's poolers and drivers send settings of their own
		}
		if err := s.startupSetting(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) startupSetting(name, value string) error {
	value, err := checkedForSession(name, value)
	if err != nil {
		return err
	}
	s.begin(name, value, "client")
	return nil
}

func (s *Session) startupOptions(options string) error {
	fields := strings.Fields(strings.ReplaceAll(options, `\ `, "\x00"))
	for i := 0; i < len(fields); i++ {
		f := fields[i]
		switch {
		case f == "-c" && i+1 < len(fields):
			i++
			f = fields[i]
		case strings.HasPrefix(f, "-c"):
			f = f[2:]
		case strings.HasPrefix(f, "--"):
			f = f[2:]
		}
		name, value, ok := strings.Cut(strings.ReplaceAll(f, "\x00", " "), "=")
		if !ok {
			return sqlstate.New(sqlstate.SyntaxError, "invalid command-line argument for server process: %s", f)
		}
		if err := s.startupSetting(strings.ToLower(strings.ReplaceAll(name, "-", "_")), value); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) nextTransaction() int64 { return e.lastTxn.Add(1) }

// Trusts says whether a client may connect without a password: from this machine, as long as no role
// has one.
func (e *Engine) Trusts(remote net.Addr) bool {
	e.catchUp()
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, r := range e.roles {
		if r.verifier != "" {
			return false
		}
	}
	return isLoopback(remote)
}

func isLoopback(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}

// parseCache keeps what recent texts parse to. Statements are immutable, so sessions share them.
type parseCache struct {
	mu    sync.RWMutex
	texts map[string][]*dialect.Statement
}

const (
	cachedTexts   = 2000
	cachedTextLen = 4096
)

func (e *Engine) parse(sql string) ([]*dialect.Statement, error) {
	c := &e.parsed
	c.mu.RLock()
	list, ok := c.texts[sql]
	c.mu.RUnlock()
	if ok {
		return list, nil
	}
	list, err := parseOne(sql)
	if err != nil || len(sql) > cachedTextLen {
		return list, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.texts == nil || len(c.texts) >= cachedTexts {
		c.texts = map[string][]*dialect.Statement{}
	}
	c.texts[sql] = list
	return list, nil
}
