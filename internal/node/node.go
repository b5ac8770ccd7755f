// Package node is one Skein process's node: it owns the directory, the storage, the engine and the
// listener, and every goroutine that lives as long as they do. cmd/skein opens one and runs it.
//
// After a crash the directory holds whole transactions only: everything acknowledged, and perhaps
// some that were not. Open recovers it without help.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"skein/internal/commit"
	"skein/internal/engine"
	"skein/internal/history"
	"skein/internal/pgwire"
	"skein/internal/sqlitevfs"
)

// Options of a node. Only Dir is required.
type Options struct {
	Dir                string
	PGAddr             string       // where PostgreSQL clients connect; 127.0.0.1:5432
	Listener           net.Listener // used instead of PGAddr when given
	Trust              bool         // every client on this machine is who it says it is
	MaxConnections     int          // sessions at a time; 100
	MaxVersionBytes    int64        // memory for page versions; 512 MB
	CheckpointLogBytes int64        // log between checkpoints; 256 MB
	SegmentBytes       int64        // of the log; 64 MB
	TempBytes          int64        // for SQLite's temporary files; 64 GB
	Logger             *slog.Logger
}

func (o *Options) setDefaults() {
	if o.PGAddr == "" {
		o.PGAddr = "127.0.0.1:5432"
	}
	if o.TempBytes == 0 {
		o.TempBytes = 64 << 30
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Node is a node that is open. Run must be called once.
type Node struct {
	options  Options
	home     *home
	pipeline *commit.Pipeline
	vfs      *sqlitevfs.VFS
	engine   *engine.Engine
	listener net.Listener

	stopStorage context.CancelFunc
	storageDone chan error
}

// Open takes the directory, recovers what is in it and listens; clients that connect wait for Run.
func Open(o Options) (*Node, error) {
	o.setDefaults()
	h, err := openHome(o.Dir)
	if err != nil {
		return nil, err
	}
	n := &Node{options: o, home: h}
	if err := n.open(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return n, nil
}

// open goes in the order in which each part stands on the one before: storage, which recovers; its
// goroutines, without which nothing commits; SQL, which may have to make the system database; and
// the listener last, so that nobody is let in before everything works.
func (n *Node) open() error {
	o := n.options
	p, rec, err := commit.Open(o.Dir, commit.Options{
		Cluster: n.home.Cluster, SegmentBytes: o.SegmentBytes, MaxVersionBytes: o.MaxVersionBytes,
		CheckpointLogBytes: o.CheckpointLogBytes, Logger: o.Logger,
	})
	if err != nil {
		return err
	}
	n.pipeline = p
	o.Logger.Info("recovered", "clean", rec.Clean, "checkpoint", rec.From, "head", rec.Head, "entries", rec.Entries,
		"bytes", rec.Bytes, "took", rec.Took.Round(time.Millisecond))
	if rec.TornBytes > 0 {
		o.Logger.Warn("cut an unfinished entry from the end of the log: it had not been acknowledged", "after", rec.Head)
	}
	temp := sqlitevfs.NewTempSpace(commit.TempDir(o.Dir), o.TempBytes)
	name := "skein-" + strconv.Itoa(os.Getpid()) + "-" + n.home.Node
	if n.vfs, err = sqlitevfs.Register(name, p.Store(), p, temp); err != nil {
		return errors.Join(err, p.Close(false))
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.stopStorage, n.storageDone = cancel, make(chan error, 1)
	go func() { n.storageDone <- p.Run(ctx) }()

	if err := p.Lead(ctx); err != nil {
		return errors.Join(err, n.closeStorage())
	}
	if n.engine, err = engine.Open(ctx, storage{n}, engine.Options{Logger: o.Logger}); err != nil {
		return errors.Join(err, n.closeStorage())
	}
	if n.listener, err = n.listen(); err != nil {
		return errors.Join(err, n.engine.Close(ctx), n.closeStorage())
	}
	return nil
}

func (n *Node) listen() (net.Listener, error) {
	if n.options.Listener != nil {
		return n.options.Listener, nil
	}
	l, err := net.Listen("tcp", n.options.PGAddr)
	if err != nil {
		return nil, err
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if ok && !addr.IP.IsLoopback() && n.engine.Trusts(&net.TCPAddr{IP: net.IPv6loopback}) {
		return nil, errors.Join(fmt.Errorf("refusing to listen on %s: no role has a password, so everybody could do everything; "+
			"start on 127.0.0.1, run CREATE ROLE … LOGIN PASSWORD … (or ALTER ROLE skein PASSWORD …), then start here again", n.options.PGAddr), l.Close())
	}
	return l, nil
}

// PGAddr is where PostgreSQL clients connect.
func (n *Node) PGAddr() net.Addr { return n.listener.Addr() }

// Run serves until ctx is done, then lets statements end, flushes, checkpoints and closes. It also
// ends, with the reason, when the disk has failed.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	server := pgwire.NewServer(n.engine, pgwire.Options{
		MaxConnections: n.options.MaxConnections, Trust: n.options.Trust, Trusts: n.engine.Trusts, Logger: n.options.Logger,
	})
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, n.listener) }()
	var failed error
	select {
	case failed = <-n.storageDone:
		n.storageDone <- failed
		n.options.Logger.Error("storage has failed; the node ends and acknowledges nothing more", "error", failed)
		cancel(failed)
	case <-ctx.Done():
	}
	err := <-served
	closing, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	return errors.Join(err, n.engine.Close(closing), n.closeStorage(), n.home.Close())
}

func (n *Node) closeStorage() error {
	n.stopStorage()
	err := <-n.storageDone
	n.vfs.Unregister()
	return errors.Join(err, n.pipeline.Close(err == nil))
}

// storage is the node's storage as the engine uses it.
type storage struct{ n *Node }

func (s storage) URI(id history.DatabaseID) string { return s.n.vfs.URI(id) }

func (s storage) Create(id history.DatabaseID) error {
	_, err := s.n.pipeline.Store().Create(id)
	return err
}

func (s storage) Drop(id history.DatabaseID) {
	s.n.pipeline.Store().Drop(id)
	s.n.pipeline.Kick()
}

func (s storage) IDs() []history.DatabaseID {
	var ids []history.DatabaseID
	for _, db := range s.n.pipeline.Store().All() {
		ids = append(ids, db.ID)
	}
	return ids
}

func (s storage) SizeBytes(id history.DatabaseID) int64 {
	if db := s.n.pipeline.Store().DB(id); db != nil {
		return int64(db.Head().Pages) * 4096
	}
	return 0
}

func (s storage) LogBytes() int64 { return s.n.pipeline.Log().Bytes() }

func (s storage) Wait(ctx context.Context, lsn history.LSN, level commit.Level) (alone bool, err error) {
	return s.n.pipeline.Wait(ctx, lsn, level)
}

func (s storage) Head() history.LSN             { return s.n.pipeline.Log().Head().LSN }
func (s storage) InRecovery() bool              { return false }
func (s storage) Configure(c commit.SyncConfig) { s.n.pipeline.Configure(c) }

func (s storage) FlushSoon()           { s.n.pipeline.FlushSoon() }
func (s storage) Visible() history.LSN { return s.n.pipeline.Visible() }
func (s storage) Checkpoint() error    { return s.n.pipeline.Checkpoint() }
