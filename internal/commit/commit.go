// Package commit is the order in which one transaction becomes real. On the leader: its page changes
// become an entry, the entry is appended to the log, its pages become the head that only the writer
// sees, the flusher makes it durable while followers receive it, it is committed under the cluster's rule, readers
// see it, and the client is answered. On a follower: frames are received, appended and flushed as they
// came; the applier makes pages of them; readers see what the leader says is committed. Recovery is
// the same order read backwards: databases as of their checkpoint, then every entry after it.
//
// On every node head ≥ flushed, and visible ≤ flushed, applied and committed; visible never goes
// down, and base files hold nothing above it.
//
// Commit is called by the one writer of a database, in any goroutine; Wait and Visible by everybody;
// Receive by the one that reads from the leader. Run owns the flusher and the checkpointer, Follow is the applier. A
// power cut keeps every entry that Flushed had passed.
package commit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"skein/internal/fault"
	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/replog"
	"skein/internal/watermark"
)

// ErrDiskFull means that the transaction found no room and left no trace; later ones may succeed.
var ErrDiskFull = errors.New("no space left on the node's disk")

// ErrNotLeading refuses a commit on a node that follows, or that has followed since the transaction began. It has left
// no trace.
var ErrNotLeading = errors.New("this node is not the leader")

// Options of a pipeline.
type Options struct {
	Cluster            replog.Cluster
	SegmentBytes       int64 // of the log; 0: its default
	MaxVersionBytes    int64 // page versions in memory; 0: the store's default
	CheckpointLogBytes int64 // log since the last checkpoint that starts the next; 0: 256 MB
	Logger             *slog.Logger

	// OnTail hears of entries that are kept in the vault because the cluster does not have them. It must not wait.
	OnTail func(Tail)

	// MayAcknowledge is asked before a client hears of a commit that no follower is known to have: after the flush
	// here, where the level asks for one; and before a leader that waits for nobody says what a read must see. It may wait until
	// ctx ends, and does not wait if it has ended; an error leaves the outcome unknown. nil: always.
	MayAcknowledge func(ctx context.Context) error

	// Clock is of this machine alone, goes on while it sleeps, and never gives 0; nil: a clock that need not go on.
	Clock func() time.Duration

	// Damaged is called once for each page that a read has found damaged; nil: nobody is told.
	Damaged func(db history.DatabaseID, page pagestore.PageNo, want uint64)
}

// readAtStart is how many bytes of databases a start reads to find damage: what takes no time.
const readAtStart = 64 << 20

// Pipeline joins the log and the page store of one node.
type Pipeline struct {
	dir     string
	options Options
	log     *replog.Log
	store   *pagestore.Store
	hint    *hint
	kick    chan struct{} // one slot: look whether a checkpoint is due
	full    atomic.Bool   // the last checkpoint has found the disk full
	done    atomic.Int64  // bytes of log that had been appended at the last checkpoint
	retain  atomic.Pointer[func() history.LSN]

	promise   *promise
	newest    atomic.Uint64                 // epoch of the newest entry
	awaited   [RemoteApply + 1]atomic.Int64 // clients that wait for standbys, by level
	degrading degrading
	applier   applier // while following

	// roles is held while this node comes to lead or ceases to, and shared by whoever shows entries or takes them for
	// committed: what a leader has found committed is never shown by the follower that it has become.
	roles sync.RWMutex
	role  atomic.Pointer[leadership] // never nil
	// ending is set while the last entries of a leadership are being appended: nothing is received before that is done,
	// which would pass for them.
	ending atomic.Bool

	visible  watermark.Watermark // what readers see
	learnt   atomic.Uint64       // following: committed, as far as the leader has said
	progress atomic.Pointer[func()]
	release  atomic.Pointer[func()]

	lastRound atomic.Uint64 // number of the newest round, of any leadership: none is used twice
	safe      safeTimes
}

// Recovery says what Open found.
type Recovery struct {
	replog.Recovery
	From   history.LSN // the checkpoint that replaying began at
	Reread int64       // pages read because nothing told their sums
	Took   time.Duration
}

// Open recovers the node in dir: databases in dir/db, log in dir/log, temporary files in dir/tmp.
func Open(dir string, o Options) (*Pipeline, Recovery, error) {
	if o.CheckpointLogBytes == 0 {
		o.CheckpointLogBytes = 256 << 20
	}
	start := time.Now()
	if o.Clock == nil {
		o.Clock = func() time.Duration { return time.Since(start) + 1 }
	}
	var rec Recovery
	tmp := TempDir(dir)
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o700)); err != nil {
		return nil, rec, err
	}
	store, err := pagestore.Open(filepath.Join(dir, "db"), pagestore.Options{TempDir: tmp, MaxBytes: o.MaxVersionBytes, ReadAtStart: readAtStart, OnDamage: o.Damaged})
	if err != nil {
		return nil, rec, fmt.Errorf("open databases: %w", err)
	}
	p := &Pipeline{dir: dir, options: o, store: store, kick: make(chan struct{}, 1)}
	p.role.Store(&leadership{})
	p.degrading.ask = make(chan overdue, 1)
	p.applier.init()
	if p.promise, err = openPromise(filepath.Join(dir, promiseFile)); err != nil {
		return nil, rec, errors.Join(err, store.Close())
	}
	if err := p.recover(&rec); err != nil {
		return nil, rec, errors.Join(err, store.Close(), p.promise.file.Close())
	}
	rec.Took = time.Since(start)
	return p, rec, nil
}

// recover replays the log. What readers had been shown before is redone in place. Of what lies above, nobody
// knows whether it was committed: it stays in the log, until a leader takes it over with Lead, or a follower
// applies it, after its delay.
func (p *Pipeline) recover(rec *Recovery) error {
	logDir := LogDir(p.dir)
	if err := replog.MakeDir(logDir); err != nil {
		return err
	}
	h, shown, err := openHint(filepath.Join(logDir, hintFile))
	if err != nil {
		return err
	}
	rec.From = p.store.CheckpointLSN()
	shown = max(shown, p.store.Reach()) // a checkpoint that was not completed has written what readers had seen, too
	replay := func(e *replog.Entry) error {
		if e.LSN <= shown {
			return p.store.Redo(e)
		}
		return nil
	}
	options := replog.Options{Cluster: p.options.Cluster, SegmentBytes: p.options.SegmentBytes, OnRelease: p.released, OnFlush: p.advance, OnSuspect: p.suspect, Flushed: shown}
	log, found, err := replog.Open(logDir, rec.From, options, replay)
	rec.Recovery = found
	if err != nil {
		return errors.Join(fmt.Errorf("open log: %w", err), h.close())
	}
	if err := errors.Join(p.store.Verify(), p.promise.settle(found.Clean)); err != nil {
		return errors.Join(err, log.Close(false), h.close())
	}
	rec.Reread = p.store.Reread()
	p.log, p.hint = log, h
	p.newest.Store(uint64(found.Head.Epoch))
	p.applier.applied.Store(uint64(shown))
	p.learnt.Store(uint64(shown))
	p.visible.Advance(shown)
	return nil
}

// LogDir is where the node in dir keeps its log.
func LogDir(dir string) string { return filepath.Join(dir, "log") }

// TempDir is where the node in dir keeps files that do not outlive it.
func TempDir(dir string) string { return filepath.Join(dir, "tmp") }

// Store gives the databases.
func (p *Pipeline) Store() *pagestore.Store { return p.store }

// Cluster is the beginning of the cluster's id, as bookmarks have it.
func (p *Pipeline) Cluster() [4]byte { return [4]byte(p.options.Cluster[:4]) }

// Log gives the log.
func (p *Pipeline) Log() *replog.Log { return p.log }

// Visible is what a new reader sees: the LSN up to which transactions are committed and are here.
func (p *Pipeline) Visible() history.LSN { return p.visible.Load() }

// Await returns once Visible has reached lsn, or with the error of ctx.
func (p *Pipeline) Await(ctx context.Context, lsn history.LSN) error { return p.visible.Wait(ctx, lsn) }

// Flushed is the newest entry that is on this node's disk.
func (p *Pipeline) Flushed() history.LSN { return p.log.Flushed.Load() }

// Epochs says where each leadership began whose entries the log has, or has had.
func (p *Pipeline) Epochs() history.Epochs { return p.log.Epochs() }

// VisibleMark is Visible, to wait on.
func (p *Pipeline) VisibleMark() *watermark.Watermark { return &p.visible }

// Committed is the LSN up to which transactions are acknowledged under the cluster's rule. On a follower
// it is what the leader has said, and may be ahead of what this node has.
func (p *Pipeline) Committed() history.LSN {
	if p.Leading() {
		return p.visible.Load()
	}
	return history.LSN(p.learnt.Load())
}

// Progress says how far this node is.
func (p *Pipeline) Progress() Progress {
	return Progress{Received: p.log.Received(), Flushed: p.log.Flushed.Load(), Applied: p.visible.Load()}
}

// OnProgress has fn called whenever what is flushed or visible has grown, followers are to be asked something, or a SafeTime is known, by
// whoever has done that: it must be quick and not block.
func (p *Pipeline) OnProgress(fn func()) { p.progress.Store(&fn) }

// OnRelease has fn called whenever followers may have what this node is about to write, by whoever writes it: it must be quick and wait for
// nothing.
func (p *Pipeline) OnRelease(fn func()) { p.release.Store(&fn) }

func (p *Pipeline) released() {
	if fn := p.release.Load(); fn != nil {
		(*fn)()
	}
}

// advance finds what readers may see by now. It is called after every step that can raise that.
func (p *Pipeline) advance() {
	if p.show() {
		p.progressed()
	}
}

func (p *Pipeline) progressed() {
	if fn := p.progress.Load(); fn != nil {
		(*fn)()
	}
}

// show raises what readers see; ok is false while it is not known whose acknowledgement counts.
func (p *Pipeline) show() (ok bool) {
	p.roles.RLock()
	defer p.roles.RUnlock()
	flushed := p.log.Flushed.Load()
	p.promise.reached(flushed)
	to := min(flushed, history.LSN(p.learnt.Load()), p.applier.at())
	if role := p.role.Load(); role.leads() {
		if to, ok = role.rule.advance(flushed); !ok {
			return false
		}
	}
	if to > p.visible.Load() {
		p.hint.raise(to) // first: what readers have seen, a restart must show
		p.visible.Advance(to)
	}
	return true
}

// FlushSoon has what was committed made durable although nobody waits for it.
func (p *Pipeline) FlushSoon() { p.log.FlushSoon() }

// Commit appends the transaction that leaves db with the given pages and size, and makes it the head.
// It gives the LSN to wait for, or 0 if nothing had changed. On success it takes the pages over.
// dirty is sorted in place. The caller is db's only writer, and base what its transaction stands on.
func (p *Pipeline) Commit(db *pagestore.DB, base history.LSN, dirty []pagestore.Dirty, pages uint32) (history.LSN, error) {
	// The role is looked at first, then the head: where the entry is appended in the end in the same epoch, this node
	// has led all the while, and nobody but the caller has moved the head.
	epoch := p.role.Load().epoch
	if epoch != 0 && db.Head().LSN != base {
		epoch = 0 // the transaction began before entries of another leader came
	}
	slices.SortFunc(dirty, func(a, b pagestore.Dirty) int { return int(a.No) - int(b.No) })
	t := transaction{db: db, dirty: dirty, pages: pages}
	if err := t.prepare(); err != nil {
		return 0, err
	}
	if len(t.writes) == 0 && pages == db.Head().Pages {
		t.releaseUnchanged()
		return 0, nil
	}
	if epoch == 0 {
		return 0, ErrNotLeading
	}
	e := &replog.Entry{
		Epoch: epoch, Database: db.ID, Kind: replog.Transaction, Time: time.Now().UnixMicro(),
		Pages: pages, Checksum: t.after.Checksum,
	}
	if err := p.room(db.ID); err != nil {
		return 0, err
	}
	if err := fault.Hit("commit.append"); err != nil {
		return 0, err
	}
	lsn, err := p.log.AppendChunks(e, t.size, t.emit, func(lsn history.LSN) {
		t.after.LSN = lsn
		db.Publish(t.after, t.writes, p.Visible())
	})
	switch {
	case errors.Is(err, replog.ErrFenced):
		return 0, fmt.Errorf("%w: %w", ErrNotLeading, err)
	case errors.Is(err, syscall.ENOSPC):
		return 0, fmt.Errorf("%w: %w", ErrDiskFull, err)
	case err != nil:
		return 0, err
	}
	t.releaseUnchanged()
	if p.due() {
		p.Kick()
	}
	_ = fault.Hit("commit.appended") // nothing is done here that could fail
	return lsn, nil
}
