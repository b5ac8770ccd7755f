package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/commit"
	"skein/internal/history"
	"skein/internal/pgwire"
	"skein/internal/replog"
	"skein/internal/sqlitevfs"
)

// rig is an engine on real storage behind a listener on this machine, put together as a node does it.
type rig struct {
	t        testing.TB
	dir      string
	options  pgwire.Options
	tokens   int   // transaction tokens that a database remembers; 0: the engine's default
	versions int64 // bytes of page versions; 0: the store's default
	temp     int64 // bytes of temporary files; 0: 1 GB
	space    *sqlitevfs.TempSpace
	engine   *Engine
	pipeline *commit.Pipeline
	address  string
	stop     func()

	standby bool // it begins as a follower, that has applied nothing of its log yet
	vfs     *sqlitevfs.VFS
	end     context.CancelCauseFunc // of the sessions
	served  chan error

	following atomic.Bool  // the node follows another
	waits     atomic.Int64 // sessions that wait for a commit, or for a position to be seen
	written   func()       // called once, between the next commit and its wait

	mu       sync.Mutex
	settings map[string]string // by OnSettings
	rule     commit.SyncConfig // by Configure
	calls    int               // of OnSettings
	commits  []string          // by OnCommit
}

// complaint fails the test: errors are logged for what must not happen, a panic above all.
type complaint struct{ t testing.TB }

func (c complaint) Write(line []byte) (int, error) {
	c.t.Errorf("logged: %s", line)
	return len(line), nil
}

var rigs atomic.Int64 // their names must differ

func newRig(t testing.TB) *rig {
	r := &rig{t: t, dir: t.TempDir()}
	r.start()
	t.Cleanup(func() {
		r.allGone()
		r.stop()
	})
	return r
}

func (r *rig) start() {
	r.t.Helper()
	log := slog.New(slog.NewTextHandler(complaint{r.t}, &slog.HandlerOptions{Level: slog.LevelError}))
	p, _, err := commit.Open(r.dir, commit.Options{Cluster: replog.Cluster{1}, SegmentBytes: 4 * replog.MaxChunk, MaxVersionBytes: r.versions, Logger: log})
	if err != nil {
		r.t.Fatal(err)
	}
	r.space = sqlitevfs.NewTempSpace(commit.TempDir(r.dir), cmp.Or(r.temp, 1<<30))
	vfs, err := sqlitevfs.Register(fmt.Sprintf("rig-%d", rigs.Add(1)), p.Store(), p, r.space)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	storageDone := make(chan error, 1)
	go func() { storageDone <- p.Run(ctx) }()
	if !r.standby {
		if err := p.Lead(ctx, 0); err != nil {
			r.t.Fatal(err)
		}
	}
	r.pipeline, r.vfs = p, vfs
	r.serve(ctx, log)
	r.stop = func() {
		err := r.endService(nil)
		cancel()
		err = errors.Join(err, <-storageDone)
		vfs.Unregister()
		if err := errors.Join(err, p.Close(true)); err != nil {
			r.t.Error("stop:", err)
		}
	}
}

// serve opens the engine and lets clients in.
func (r *rig) serve(ctx context.Context, log *slog.Logger) {
	r.t.Helper()
	e, err := Open(ctx, rigStorage{r.pipeline, r.vfs, r}, Options{DropWait: 10 * time.Millisecond, Logger: log, OnSettings: r.onSettings, OnCommit: r.onCommit, MaxTokens: r.tokens})
	if err != nil {
		r.t.Fatal(err)
	}
	r.pipeline.RecordWith(e)
	r.pipeline.OnApply(e.Applied)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	serving, end := context.WithCancelCause(ctx)
	options := r.options
	options.Trusts, options.Logger = e.Trusts, log
	served := make(chan error, 1)
	go func() { served <- pgwire.NewServer(e, options).Serve(serving, l) }()
	r.engine, r.address, r.end, r.served = e, l.Addr().String(), end, served
}

// endService ends every session, for a reason, and closes the engine.
func (r *rig) endService(why error) error {
	r.end(why)
	err := <-r.served
	r.checkIdle()
	return errors.Join(err, r.engine.Close(context.Background()))
}

// checkIdle holds after every test: sessions that have ended have left nothing behind.
func (r *rig) checkIdle() {
	r.t.Helper()
	e := r.engine
	if n := len(e.sessions); n > 0 {
		r.t.Errorf("%d sessions are left", n)
	}
	if n := len(e.locks.locks); n > 0 {
		r.t.Errorf("%d advisory locks are left", n)
	}
	if n := len(e.drafts.open); n > 0 {
		r.t.Errorf("%d drafts are left", n)
	}
	for name, d := range e.databases {
		if d.writer.held || len(d.writer.queue) > 0 {
			r.t.Errorf("database %q: the turn is not free", name)
		}
		if n := len(d.slots); n > 0 {
			r.t.Errorf("database %q: %d readers are in use", name, n)
		}
		if d.sessions != 0 {
			r.t.Errorf("database %q counts %d sessions", name, d.sessions)
		}
		for _, c := range append(d.idle, d.warm) {
			if c != nil && (!c.sqlite.GetAutocommit() || c.file.SnapshotLSN() != 0) {
				r.t.Errorf("database %q: an unused connection is in a transaction", name)
			}
		}
	}
}

// eventually waits for what another goroutine is about to do.
func (r *rig) eventually(what string, done func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: it does not happen", what)
		}
	}
}

func (r *rig) database(name string) *Database {
	r.engine.mu.RLock()
	defer r.engine.mu.RUnlock()
	return r.engine.databases[name]
}

// queued waits until n sessions wait to write.
func (r *rig) queued(n int) {
	r.t.Helper()
	w := &r.database(DefaultDatabase).writer
	r.eventually(fmt.Sprintf("%d wait to write", n), func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.queue) == n
	})
}

// running waits until a session runs something that can be cancelled.
func (r *rig) running(pid uint32) {
	r.t.Helper()
	r.engine.mu.RLock()
	s := r.engine.sessions[pid]
	r.engine.mu.RUnlock()
	r.eventually("a session runs", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.cancel != nil
	})
}

// gone waits until a session has ended.
func (r *rig) gone(pid uint32) {
	r.t.Helper()
	r.eventually("a session ends", func() bool {
		r.engine.mu.RLock()
		defer r.engine.mu.RUnlock()
		return r.engine.sessions[pid] == nil
	})
}

func (r *rig) allGone() {
	r.t.Helper()
	r.eventually("all sessions end", func() bool {
		r.engine.mu.RLock()
		defer r.engine.mu.RUnlock()
		return len(r.engine.sessions) == 0
	})
}

// awaited waits until n sessions wait for a commit of theirs.
func (r *rig) awaited(n int64) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("%d wait for a commit", n), func() bool { return r.waits.Load() == n })
	if err := r.pipeline.Log().Wait(r.t.Context(), r.pipeline.Log().Head().LSN); err != nil { // for followers: what the leader's disk has is settled
		r.t.Fatal(err)
	}
	r.pipeline.Forget("nobody") // the rule has looked at it
}

// acknowledge has a follower say that it has come so far: received, flushed or applied.
func (r *rig) acknowledge(name, what string) {
	r.t.Helper()
	head := r.pipeline.Log().Head().LSN
	if err := r.pipeline.Log().Wait(r.t.Context(), head); err != nil { // followers are not ahead of the leader's own disk here
		r.t.Fatal(err)
	}
	at := commit.Progress{Received: head}
	if what != "received" {
		at.Flushed = head
	}
	if what == "applied" {
		at.Applied = head
	}
	r.pipeline.Acknowledge(name, at)
}

// restored waits until the leader waits for followers again and has written that down.
func (r *rig) restored() {
	r.t.Helper()
	r.eventually("followers are waited for again", func() bool {
		ended := false
		err := r.engine.readSystem(r.t.Context(), 0, true, func(c *conn) error {
			return c.query("SELECT ended > 0 FROM degradations ORDER BY id DESC LIMIT 1", func(st *sqlite3.Stmt) { ended = st.ColumnBool(0) })
		})
		if err != nil {
			r.t.Fatal(err)
		}
		return ended
	})
}

// arrive makes a change as one that the node has received.
func (r *rig) arrive(database, sql string) {
	r.t.Helper()
	r.engine.Replicated(r.appear(database, sql))
}

// appear makes one that readers see, and that the engine has not been told of since.
func (r *rig) appear(database, sql string) (history.DatabaseID, history.LSN) {
	r.t.Helper()
	d := r.engine.system
	if database != "system" {
		d = r.database(database)
	}
	ctx := r.t.Context()
	r.engine.Applied(d.ID, r.pipeline.Log().Head().LSN+1, true)
	lsn, err := d.write(ctx, nil, func(c *conn) error { return c.exec(sql) })
	if err == nil {
		err = r.pipeline.Log().Wait(ctx, lsn)
	}
	if err != nil {
		r.t.Fatal(sql, err)
	}
	return d.ID, lsn
}

// keys gives the commits under causality keys that the node was told of, and forgets them.
func (r *rig) keys() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.commits = nil }()
	return r.commits
}

func (r *rig) onCommit(key string, lsn history.LSN) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commits = append(r.commits, fmt.Sprintf("%s %s", key, lsn.PgLSN()))
}

func (r *rig) onSettings(all map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settings = all
	r.calls++
}

// told is what the node has last heard of its settings.
func (r *rig) told() (lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, value := range r.settings {
		lines = append(lines, name+" = "+value)
	}
	slices.Sort(lines)
	return append(lines, fmt.Sprintf("rule: %s at %s, timeout %s, degrade %t", r.rule.Names, r.rule.Level, r.rule.Timeout, r.rule.Degrade))
}

// rigStorage is a node's storage.
type rigStorage struct {
	*commit.Pipeline
	vfs *sqlitevfs.VFS
	rig *rig
}

func (s rigStorage) Wait(ctx context.Context, lsn history.LSN, level commit.Level) (bool, error) {
	s.rig.waits.Add(1)
	defer s.rig.waits.Add(-1)
	if fn := s.rig.written; fn != nil {
		s.rig.written = nil
		fn()
	}
	return s.Pipeline.Wait(ctx, lsn, level)
}

func (s rigStorage) Await(ctx context.Context, lsn history.LSN) error {
	s.rig.waits.Add(1)
	defer s.rig.waits.Add(-1)
	return s.Pipeline.Await(ctx, lsn)
}

func (s rigStorage) Head() history.LSN { return s.Log().Head().LSN }

func (s rigStorage) Leads() history.Epoch {
	if s.rig.following.Load() {
		return 0
	}
	return s.Pipeline.Leads()
}

func (s rigStorage) Configure(c commit.SyncConfig) {
	s.rig.mu.Lock()
	defer s.rig.mu.Unlock()
	s.rig.rule = c
	s.Pipeline.Configure(c)
}

func (s rigStorage) URI(id history.DatabaseID) string { return s.vfs.URI(id) }

func (s rigStorage) Create(id history.DatabaseID) error {
	_, err := s.Store().Create(id)
	return err
}

func (s rigStorage) Drop(id history.DatabaseID) {
	s.Store().Drop(id)
	s.Kick()
}

func (s rigStorage) IDs() (ids []history.DatabaseID) {
	for _, db := range s.Store().All() {
		ids = append(ids, db.ID)
	}
	return ids
}

func (s rigStorage) LogBytes() int64 { return s.Log().Bytes() }

func (s rigStorage) SizeBytes(id history.DatabaseID) int64 {
	if db := s.Store().DB(id); db != nil {
		return int64(db.Head().Pages) * 4096
	}
	return 0
}
