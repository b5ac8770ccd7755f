// Package commit is the order in which one transaction becomes real: its page changes become an
// entry, the entry is appended to the log, its pages become the head that only the writer sees, the
// flusher makes it durable, it is committed under the cluster's rule, readers see it, and the client is
// answered. Recovery is the same order read backwards: databases as of their checkpoint, then
// every entry after it.
//
// Commit is called by the one writer of a database, in any goroutine; Wait and Visible by everybody.
// Run owns the flusher and the checkpointer. A power cut keeps every entry that Flushed had passed.
package commit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"skein/internal/fault"
	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/replog"
)

// ErrDiskFull means that the transaction found no room and left no trace; later ones may succeed.
var ErrDiskFull = errors.New("no space left on the node's disk")

// Options of a pipeline.
type Options struct {
	Cluster            replog.Cluster
	SegmentBytes       int64 // of the log; 0: its default
	MaxVersionBytes    int64 // page versions in memory; 0: the store's default
	CheckpointLogBytes int64 // log since the last checkpoint that starts the next; 0: 256 MB
	Logger             *slog.Logger
}

// Pipeline joins the log and the page store of one node.
type Pipeline struct {
	options Options
	log     *replog.Log
	store   *pagestore.Store
	epoch   history.Epoch
	kick    chan struct{} // one slot: look whether a checkpoint is due
	full    atomic.Bool   // the last checkpoint has found the disk full
	done    atomic.Int64  // bytes of log that had been appended at the last checkpoint
}

// Recovery says what Open found.
type Recovery struct {
	replog.Recovery
	From history.LSN // the checkpoint that replaying began at
	Took time.Duration
}

// Open recovers the node in dir: databases in dir/db, log in dir/log, temporary files in dir/tmp.
func Open(dir string, o Options) (*Pipeline, Recovery, error) {
	if o.CheckpointLogBytes == 0 {
		o.CheckpointLogBytes = 256 << 20
	}
	start := time.Now()
	var rec Recovery
	tmp := TempDir(dir)
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o700)); err != nil {
		return nil, rec, err
	}
	store, err := pagestore.Open(filepath.Join(dir, "db"), pagestore.Options{TempDir: tmp, MaxBytes: o.MaxVersionBytes})
	if err != nil {
		return nil, rec, fmt.Errorf("open databases: %w", err)
	}
	rec.From = store.CheckpointLSN()
	log, found, err := replog.Open(filepath.Join(dir, "log"), rec.From, replog.Options{Cluster: o.Cluster, SegmentBytes: o.SegmentBytes}, store.Redo)
	rec.Recovery = found
	if err != nil {
		return nil, rec, errors.Join(fmt.Errorf("open log: %w", err), store.Close())
	}
	if err := store.Verify(); err != nil {
		return nil, rec, errors.Join(err, store.Close(), log.Close(false))
	}
	rec.Took = time.Since(start)
	p := &Pipeline{options: o, log: log, store: store, epoch: max(found.Head.Epoch, 1), kick: make(chan struct{}, 1)}
	return p, rec, nil
}

// TempDir is where the node in dir keeps files that do not outlive it.
func TempDir(dir string) string { return filepath.Join(dir, "tmp") }

// Store gives the databases.
func (p *Pipeline) Store() *pagestore.Store { return p.store }

// Log gives the log.
func (p *Pipeline) Log() *replog.Log { return p.log }

// Visible is the LSN up to which transactions are committed: what a new reader sees.
func (p *Pipeline) Visible() history.LSN { return p.log.Flushed.Load() }

// Wait returns once lsn is committed. With an error the outcome is unknown.
func (p *Pipeline) Wait(ctx context.Context, lsn history.LSN) error {
	return p.log.Wait(ctx, lsn)
}

// FlushSoon has what was committed made durable although nobody waits for it.
func (p *Pipeline) FlushSoon() { p.log.FlushSoon() }

// Commit appends the transaction that leaves db with the given pages and size, and makes it the head.
// It gives the LSN to wait for, or 0 if nothing had changed. On success it takes the pages over.
// dirty is sorted in place. The caller is db's only writer.
func (p *Pipeline) Commit(db *pagestore.DB, dirty []pagestore.Dirty, pages uint32) (history.LSN, error) {
	slices.SortFunc(dirty, func(a, b pagestore.Dirty) int { return int(a.No) - int(b.No) })
	t := transaction{db: db, dirty: dirty, pages: pages}
	if err := t.prepare(); err != nil {
		return 0, err
	}
	if len(t.writes) == 0 && pages == db.Head().Pages {
		t.releaseUnchanged()
		return 0, nil
	}
	e := &replog.Entry{
		Epoch: p.epoch, Database: db.ID, Kind: replog.Transaction, Time: time.Now().UnixMicro(),
		Pages: pages, Checksum: t.after.Checksum,
	}
	if err := p.room(); err != nil {
		return 0, err
	}
	if err := fault.Hit("commit.append"); err != nil {
		return 0, err
	}
	lsn, err := p.log.AppendChunks(e, t.size, t.emit, func(lsn history.LSN) {
		t.after.LSN = lsn
		db.Publish(t.after, t.writes, p.Visible())
	})
	if errors.Is(err, syscall.ENOSPC) {
		return 0, fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	if err != nil {
		return 0, err
	}
	t.releaseUnchanged()
	if p.due() {
		p.Kick()
	}
	_ = fault.Hit("commit.appended") // nothing is done here that could fail
	return lsn, nil
}

// Kick has the checkpointer look whether it is due.
func (p *Pipeline) Kick() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// Run flushes and checkpoints until ctx is done, then flushes what is left and checkpoints once more.
// An error means that the disk has failed: the node must end, and nothing is acknowledged any more.
func (p *Pipeline) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	flusher := make(chan error, 1)
	go func() {
		err := p.log.Run(ctx)
		cancel(err)
		flusher <- err
	}()
	err := p.checkpoints(ctx)
	cancel(err)
	if err = errors.Join(err, <-flusher); err != nil {
		return err
	}
	return p.store.Checkpoint(p.Visible())
}

// checkpoints runs one whenever enough log or memory has gathered.
func (p *Pipeline) checkpoints(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.kick:
		}
		if !p.due() && !p.store.DropPending() {
			continue
		}
		held, before := p.store.HeldBytes(), p.log.Bytes()
		// What made it due may still be on its way to the disk, and nothing else may come to kick.
		if err := p.Wait(ctx, p.log.Head().LSN); err != nil {
			continue // the node is stopping, or the flusher says why it fails
		}
		if err := p.Checkpoint(); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				return err
			}
			p.options.Logger.Error("checkpoint found the disk full; it will be tried again", "error", err)
			continue
		}
		p.done.Store(before)
		p.relieve(held)
	}
}

// due says whether enough log or memory has gathered since the last checkpoint. Every commit asks.
func (p *Pipeline) due() bool {
	return p.log.Bytes()-p.done.Load() >= p.options.CheckpointLogBytes ||
		p.store.HeldBytes() >= p.store.MaxBytes()/2 || p.store.SpilledBytes() >= p.store.MaxBytes()
}

// Checkpoint moves everything committed into the base files and gives up the log before it.
func (p *Pipeline) Checkpoint() error {
	err := p.store.Checkpoint(p.Visible())
	p.full.Store(errors.Is(err, syscall.ENOSPC))
	if err != nil {
		return err
	}
	return p.log.Trim(p.store.CheckpointLSN())
}

// room refuses a transaction while page versions fill the memory and the disk has no room for them: a
// log that compresses well could go on long after the databases cannot.
func (p *Pipeline) room() error {
	if !p.full.Load() || p.store.HeldBytes() <= p.store.MaxBytes() {
		return nil
	}
	err := p.Checkpoint()
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}

// relieve ends the oldest snapshots while versions that only they need fill the memory.
func (p *Pipeline) relieve(before int64) {
	if p.store.HeldBytes() <= p.store.MaxBytes() || before <= p.store.MaxBytes() {
		return
	}
	ended := false
	for _, db := range p.store.All() {
		if db.KillOldest(p.Visible()) {
			ended = true
			p.options.Logger.Warn("ended the oldest snapshot: old page versions fill the memory", "database", db.ID, "bytes", p.store.HeldBytes())
		}
	}
	if ended {
		p.Kick() // look whether that was enough
	}
}

// Close closes the files after Run has returned; clean says that Run returned without error.
func (p *Pipeline) Close(clean bool) error {
	return errors.Join(p.log.Close(clean), p.store.Close())
}
