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
	"time"

	"golang.org/x/sync/errgroup"

	"skein/internal/commit"
	"skein/internal/engine"
	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/pgwire"
	"skein/internal/replication"
	"skein/internal/sqlitevfs"
)

var errStorage = errors.New("storage has failed")

// term is the time for which a node's storage is open in one role.
type term struct {
	node     *Node
	pipeline *commit.Pipeline
	vfs      *sqlitevfs.VFS
	engine   *engine.Engine
	peer     *replication.Peer

	system changes // of the system database

	stopStorage context.CancelFunc
	storageDone chan error
}

// lacksCopy says whether a follower's directory has no data yet, or only part of them.
func (n *Node) lacksCopy() bool {
	if n.options.Follow == "" {
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
	t := &term{node: n, system: newChanges(), storageDone: make(chan error, 1)}
	p, rec, err := commit.Open(o.Dir, commit.Options{
		Cluster: n.home.Cluster, SegmentBytes: o.SegmentBytes, MaxVersionBytes: o.MaxVersionBytes,
		CheckpointLogBytes: o.CheckpointLogBytes, Logger: o.Logger, Damaged: t.damaged,
	})
	if err != nil {
		return nil, err
	}
	t.pipeline = p
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

func (t *term) takeRole(ctx context.Context) (err error) {
	if t.node.options.Follow == "" {
		if err := t.pipeline.Lead(ctx, 0); err != nil {
			return err
		}
		t.node.options.Logger.Info("leading", "epoch", t.pipeline.Epoch(), "head", t.pipeline.Log().Head())
	}
	if t.peer, err = replication.NewPeer(replication.Options{Link: t.node.link(), Dir: t.node.options.Dir, Pipeline: t.pipeline}); err != nil {
		return err
	}
	t.pipeline.OnApply(t.applied)
	t.engine, err = engine.Open(ctx, storage{t.pipeline, t.vfs.URI}, engine.Options{
		Logger: t.node.options.Logger, Replication: t, OnSettings: t.configure,
	})
	if err != nil {
		return err
	}
	t.pipeline.RecordWith(t.engine)
	if head := t.pipeline.Log().Head().LSN; head > t.pipeline.Visible() { // what the tail holds of the system database is not known here
		t.applied(history.SystemDatabase, head, true)
	}
	return nil
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
	if !t.engine.Trusts(&net.TCPAddr{IP: net.IPv6loopback}) {
		return nil
	}
	return fmt.Errorf("refusing to listen on %s: no role has a password, so everybody could do everything; "+
		"start on 127.0.0.1, run CREATE ROLE … LOGIN PASSWORD … (or ALTER ROLE skein PASSWORD …), then start here again", t.node.options.PGAddr)
}

// applied hears of every transaction that this node has applied, before its readers see it.
func (t *term) applied(db history.DatabaseID, lsn history.LSN, schema bool) {
	if schema && t.engine != nil {
		t.engine.SchemaChanged(db, lsn)
	}
	if db != history.SystemDatabase {
		return
	}
	t.system.add(lsn)
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
	n := t.node
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
	if n.door != nil {
		do(t.answerNodes)
	}
	if n.options.Follow != "" {
		do(t.pipeline.Follow)
		do(func(ctx context.Context) error { return t.peer.Follow(ctx, n.options.Follow, commit.AnyEpoch) })
	}
	do(func(ctx context.Context) error {
		server := pgwire.NewServer(t.engine, pgwire.Options{
			MaxConnections: n.options.MaxConnections, Trust: n.options.Trust, Trusts: t.engine.Trusts, Logger: n.options.Logger,
		})
		return server.Serve(ctx, n.sql.again())
	})
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

func (t *term) close() error {
	closing, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	return errors.Join(t.engine.Close(closing), t.closeStorage())
}

func (t *term) closeStorage() error {
	t.stopStorage()
	err := <-t.storageDone
	t.vfs.Unregister()
	return errors.Join(err, t.pipeline.Close(err == nil))
}
