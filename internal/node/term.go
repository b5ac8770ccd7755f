package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"skein/internal/commit"
	"skein/internal/control"
	"skein/internal/engine"
	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/pgwire"
	"skein/internal/replication"
	"skein/internal/router"
	"skein/internal/sqlitevfs"
	"skein/internal/sqlstate"
)

var errStorage = errors.New("storage has failed")

// term is the time for which a node's storage is open in one role.
type term struct {
	node     *Node
	pipeline *commit.Pipeline
	vfs      *sqlitevfs.VFS
	engine   atomic.Pointer[engine.Engine] // another one when this node has ceased to lead
	peer     *replication.Peer
	fresh    *freshness
	ruling   *ruling
	router   *router.Router

	sentAway chan *departure        // one slot
	failed   atomic.Pointer[string] // why this node cannot lead although it was appointed
	cutOff   chan isolation         // one slot
	deaf     atomic.Int64           // for how long it has not heard the followers that it needs, ns
	busy     atomic.Pointer[string] // why writes could not be stopped
	paused   atomic.Bool            // writes wait, and what was written is acknowledged

	system     changes      // of the system database
	applyDelay atomic.Int64 // the cluster's, ns

	stopStorage context.CancelFunc
	storageDone chan error
}

// lacksCopy says whether the directory has no data yet, or only part of them, and is to get them from another node.
func (n *Node) lacksCopy() bool {
	if n.control.Load() == nil && n.options.Follow == "" || n.founding {
		return false
	}
	if pagestore.Installing(filepath.Join(n.options.Dir, "db")) {
		return true
	}
	for _, part := range []string{filepath.Join(n.options.Dir, "db"), commit.LogDir(n.options.Dir)} {
		if _, err := os.Stat(part); errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// openTerm opens storage, which recovers; its goroutines, without which nothing commits; then takes the
// role; and then SQL, which on a new leader has to make the system database.
func (n *Node) openTerm(ctx context.Context) (*term, error) {
	o := n.options
	t := &term{node: n, system: newChanges(), storageDone: make(chan error, 1), sentAway: make(chan *departure, 1), cutOff: make(chan isolation, 1)}
	p, rec, err := commit.Open(o.Dir, commit.Options{
		Cluster: n.home.Cluster, SegmentBytes: o.SegmentBytes, MaxVersionBytes: o.MaxVersionBytes,
		CheckpointLogBytes: o.CheckpointLogBytes, Logger: o.Logger, Damaged: t.damaged, MayAcknowledge: n.lease(), OnTail: n.tailKept,
		Clock: control.Boottime,
	})
	if err != nil {
		return nil, err
	}
	t.pipeline = p
	t.ruling = newRuling(p, n.cluster, n.members())
	t.logRecovery(rec)
	temp := sqlitevfs.NewTempSpace(commit.TempDir(o.Dir), o.TempBytes)
	name := "skein-" + strconv.Itoa(os.Getpid()) + "-" + n.home.Node
	if t.vfs, err = sqlitevfs.Register(name, p.Store(), p, temp); err != nil {
		return nil, errors.Join(err, p.Close(false))
	}
	storageCtx, cancel := context.WithCancel(context.Background())
	t.stopStorage = cancel
	go func() { t.storageDone <- p.Run(storageCtx) }()
	if err := t.takeRole(ctx); err != nil {
		return nil, errors.Join(err, t.closeStorage())
	}
	t.fresh = newFreshness(t)
	if err := t.mayListen(); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func (t *term) logRecovery(rec commit.Recovery) {
	log := t.node.options.Logger
	log.Info("recovered", "clean", rec.Clean, "checkpoint", rec.From, "head", rec.Head, "visible", t.pipeline.Visible(),
		"entries", rec.Entries, "bytes", rec.Bytes, "reread", rec.Reread, "took", rec.Took.Round(time.Millisecond))
	if rec.TornBytes > 0 {
		log.Warn("cut an unfinished entry from the end of the log: it had not been acknowledged", "after", rec.Head)
	}
}

// takeRole leads at once where that is this node's configuration. Otherwise it follows until roles learns more.
func (t *term) takeRole(ctx context.Context) (err error) {
	n := t.node
	if n.leadsByHand() {
		if err := t.pipeline.Lead(ctx, 0); err != nil {
			return err
		}
		n.options.Logger.Info("leading", "epoch", t.pipeline.Epoch(), "head", t.pipeline.Log().Head())
	}
	if t.peer, err = replication.NewPeer(replication.Options{
		Link: n.link(), Dir: n.options.Dir, Pipeline: t.pipeline, Mended: n.pageMended, CountAs: n.countAs(), Members: n.memberIDs,
	}); err != nil {
		return err
	}
	t.pipeline.OnApply(t.applied)
	if err := t.openEngine(ctx); err != nil {
		return err
	}
	t.pipeline.RecordWith(recorder{t.ruling, func() commit.Recorder { return t.engine.Load() }})
	if head := t.pipeline.Log().Head().LSN; head > t.pipeline.Visible() { // what the tail holds of the system database is not known here
		t.applied(history.SystemDatabase, head, true)
	}
	return nil
}

func (t *term) openEngine(ctx context.Context) error {
	e, err := engine.Open(ctx, storage{t.pipeline, t.vfs.URI, t.ruling}, engine.Options{
		Logger: t.node.options.Logger, Replication: t, Failover: t.node.sqlCluster(), OnSettings: t.configure, OnCommit: t.pipeline.NoteCommit,
	})
	if err == nil {
		t.engine.Store(e)
	}
	return err
}

// mayListen refuses to serve the network while nobody needs a password.
func (t *term) mayListen() error {
	host, _, err := net.SplitHostPort(t.node.options.PGAddr)
	if err != nil || t.node.options.Listener != nil {
		return nil // Open's listening says what is wrong with the address
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() || host == "localhost" {
		return nil
	}
	if !t.engine.Load().Trusts(&net.TCPAddr{IP: net.IPv6loopback}) {
		return nil
	}
	return fmt.Errorf("refusing to listen on %s: no role has a password, so everybody could do everything; "+
		"start on 127.0.0.1, run CREATE ROLE … LOGIN PASSWORD … (or ALTER ROLE skein PASSWORD …), then start here again", t.node.options.PGAddr)
}

// applied hears of every transaction that this node has applied, before its readers see it.
func (t *term) applied(db history.DatabaseID, lsn history.LSN, schema bool) {
	if e := t.engine.Load(); e != nil {
		e.Applied(db, lsn, schema)
	}
	if db == history.SystemDatabase {
		t.system.add(lsn)
	}
}

// damaged hears of pages that do not read as they were written.
func (t *term) damaged(db history.DatabaseID, no pagestore.PageNo, want uint64) {
	if t.peer != nil {
		t.peer.Damaged(db, no, want)
	}
}

// saveTail keeps what a new copy would overwrite.
func (t *term) saveTail(why *replication.NeedSnapshot) error {
	if !why.Diverged {
		return nil
	}
	name, err := t.pipeline.SaveTail(why.Fork)
	if name != "" {
		t.node.options.Logger.Warn("entries that the cluster does not have are kept in the vault", "file", name, "after", why.Fork)
	}
	return err
}

// run serves until ctx is done, the disk fails, or the role cannot go on.
func (t *term) run(ctx context.Context) error {
	serving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var group errgroup.Group
	do := func(fn func(context.Context) error) {
		group.Go(func() error {
			err := fn(serving)
			if err != nil {
				stop(err)
			}
			return err
		})
	}
	do(t.watchStorage)
	do(t.followSystem)
	do(t.peer.Run)
	do(t.answerNodes)
	do(t.roles)
	do(t.fresh.run)
	do(t.watchItself)
	do(t.serveSQL)
	err := group.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// answerNodes has other nodes find this one's data behind its door.
func (t *term) answerNodes(ctx context.Context) error {
	release := t.node.door.Admit(t.peer)
	<-ctx.Done()
	release()
	return nil
}

// serveSQL lets clients in until ctx is done.
func (t *term) serveSQL(ctx context.Context) error {
	n := t.node
	t.router = router.New(router.Options{Cluster: t.leaders(), Fresh: t.freshness(), Name: n.name(), Logger: n.options.Logger})
	server := pgwire.NewServer(t.router, pgwire.Options{
		MaxConnections: n.options.MaxConnections, Trust: n.options.Trust, Trusts: t.router.Trusts, Logger: n.options.Logger,
	})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, n.sql.again()) })
	group.Go(func() error { return t.router.Run(ctx) })
	group.Go(func() error { return t.serveRouters(ctx) })
	group.Go(func() error { return t.serveEngines(ctx) })
	return group.Wait()
}

// serveEngines has clients use one engine after the other. When this node has ceased to lead, the engine is opened anew: its
// connections have seen a tail that may be cut.
func (t *term) serveEngines(ctx context.Context) error {
	for {
		err := t.serveEngine(ctx)
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

func (t *term) serveEngine(ctx context.Context) error {
	e := t.engine.Load()
	t.router.Enter(e)
	serving, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- t.serveForwarded(serving, e) }()
	select {
	case err := <-served:
		stop(nil)
		return err
	case <-ctx.Done():
		stop(engine.ErrNotLeader)
		return <-served
	case d := <-t.sentAway:
		defer close(d.gone)
		stop(engine.ErrNotLeader)
		t.router.Leave(leaveTime, errNoLonger)
		if err := <-served; err != nil || ctx.Err() != nil {
			return err
		}
		if err := t.closeEngine(); err != nil {
			return fmt.Errorf("close the engine of a leadership that is over: %w", err)
		}
		select {
		case <-d.over:
		case <-ctx.Done():
		}
		if err := t.openEngine(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		t.applied(history.SystemDatabase, t.pipeline.Visible(), false) // the old engine may have been told of what the new one has not read
		return nil
	}
}

// errNoLonger is what sessions of a leadership that is over end with, if they have what cannot be taken along.
var errNoLonger = sqlstate.New(sqlstate.AdminShutdown, "terminating connection: this node has ceased to lead").
	WithHint("Connect again: of several hosts, target_session_attrs=read-write finds the leader.")

// departure is the end of the sessions of a leadership.
type departure struct {
	over chan struct{} // closed when this node does not lead any more
	gone chan struct{} // closed when the next clients may come
}

// sendAway ends the sessions of a leadership, without waiting until they have.
func (t *term) sendAway() *departure {
	d := &departure{make(chan struct{}), make(chan struct{})}
	t.sentAway <- d
	return d
}

// watchStorage ends the term when the disk has failed.
func (t *term) watchStorage(ctx context.Context) error {
	select {
	case err := <-t.storageDone:
		t.storageDone <- err // for closeStorage, which says why
		t.node.options.Logger.Error("storage has failed; the node ends and acknowledges nothing more", "error", err)
		return errStorage
	case <-ctx.Done():
		return nil
	}
}

func (t *term) close() error { return errors.Join(t.closeEngine(), t.closeStorage()) }

func (t *term) closeEngine() error {
	closing, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	return t.engine.Load().Close(closing)
}

func (t *term) closeStorage() error {
	t.stopStorage()
	err := <-t.storageDone
	t.vfs.Unregister()
	return errors.Join(err, t.pipeline.Close(err == nil))
}
