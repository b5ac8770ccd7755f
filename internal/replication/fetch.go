package replication

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"skein/internal/commit"
	"skein/internal/fault"
	"skein/internal/history"
	"skein/internal/pagestore"
	"skein/internal/replog"
)

// progressPace is how often a Fetch reports.
const progressPace = 200 * time.Millisecond

// ErrNoRoom means that the databases do not fit on this node's disk; nothing there was touched.
var ErrNoRoom = errors.New("the snapshot does not fit on this node's disk")

var errOlderSnapshot = errors.New("the snapshot is older than what this node has shown")

// Progress of a snapshot, in bytes of databases.
type Progress struct {
	Total int64
	Done  int64 // in place: equal before, or received
	Moved int64 // received, because they differed
	Rate  int64 // done per second
}

// rate is how much was done per second.
func rate(done int64, since, now time.Time) int64 {
	if d := now.Sub(since); d > 0 {
		return int64(float64(done) / d.Seconds())
	}
	return 0
}

// FetchOptions of a Fetch.
type FetchOptions struct {
	// NotBelow is the position up to which this node's readers have seen; a snapshot of the same history
	// that does not reach it is refused until the source has come further.
	NotBelow history.Position
	// SegmentBytes is the size of the new log's segments, 0 for the default.
	SegmentBytes int64
	// Progress, if any, is called several times a second, from one goroutine.
	Progress func(Progress)
}

// Fetch makes the node in dir, whose storage nobody has open, a copy of the one at address: its databases
// as of one entry, and a log that begins behind it, which is where Follow can go on. Pages that an
// older copy, or an interrupted Fetch, has right do not travel. From the first page on until it is complete the
// directory cannot be opened, after a crash neither; another Fetch goes on where it stopped.
//
// It tries again whenever the connection fails, until ctx is done. It ends with a *Refused that is not
// temporary, with ErrNoRoom, or with what this node's disk said. l.Cluster is the cluster's.
func (l *Link) Fetch(ctx context.Context, address, dir string, o FetchOptions) (history.Position, error) {
	link := *l
	link.setDefaults()
	var retry pacer
	for {
		at, err := link.fetchOnce(ctx, address, dir, o)
		if err == nil {
			return at, nil
		}
		if ctx.Err() != nil {
			return at, context.Cause(ctx)
		}
		if final(err) {
			return at, err
		}
		if retry.changed(err) {
			link.Logger.Warn("the snapshot was interrupted; trying again", "source", address, "error", err)
		}
		rest(ctx, retry.next())
	}
}

// fetch is one attempt at a Fetch.
type fetch struct {
	link    *Link
	w       *wire
	dir     string
	options FetchOptions
	head    snapshotHead
	install *pagestore.Install

	since             time.Time
	total, done, move atomic.Int64
}

func (l *Link) fetchOnce(ctx context.Context, address, dir string, o FetchOptions) (at history.Position, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, _, err := l.dial(ctx, address, toFetch)
	if err != nil {
		return at, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = w.close() }()
	w.timeout = snapshotPatience * l.Timeout
	f := &fetch{link: l, w: w, dir: dir, options: o, since: time.Now()}
	if err := w.write(kindSnapshotWanted, 0, 0); err != nil {
		return at, err
	}
	m, err := w.expectAlive(kindSnapshot)
	if err != nil {
		return at, ended(ctx, err)
	}
	if f.head, err = decodeSnapshotHead(m.payload); err != nil {
		return at, err
	}
	if f.head.At.Less(o.NotBelow) {
		return at, fmt.Errorf("%w: it is at %s, this node at %s", errOlderSnapshot, f.head.At, o.NotBelow)
	}
	defer w.keepAlive(ctx, l.Heartbeat)()
	defer f.report(ctx)()
	if err := f.take(ctx); err != nil {
		return at, ended(ctx, err)
	}
	_ = w.write(kindSnapshotTaken, 0, 0) // all is in place, whether the source hears of it or not
	return f.head.At, nil
}

// take brings the databases into the directory, then a new log, and only then makes it one that can be opened.
func (f *fetch) take(ctx context.Context) (err error) {
	if err := f.room(); err != nil {
		return &storageFailed{err}
	}
	if f.install, err = pagestore.BeginInstall(filepath.Join(f.dir, "db")); err != nil {
		return &storageFailed{err}
	}
	defer func() { err = errors.Join(err, f.install.Close()) }()
	// All older copies are hashed before the first page travels: then nobody waits for a disk with a full network.
	for _, db := range f.head.Databases {
		f.total.Add(int64(db.Pages) * pagestore.PageSize)
		if _, err := f.install.Sums(db.ID); err != nil {
			return &storageFailed{err}
		}
	}
	if err := f.pages(ctx); err != nil {
		return err
	}
	if _, err := f.w.expectAlive(kindSnapshotEnd); err != nil {
		return err
	}
	if err := f.complete(); err != nil {
		return &storageFailed{fmt.Errorf("install snapshot at %s: %w", f.head.At, err)}
	}
	return nil
}

// complete is the part that must be whole or not be: the mark that BeginInstall has set goes last.
func (f *fetch) complete() error {
	if err := f.install.Finish(f.head.At.LSN, f.head.Databases); err != nil {
		return err
	}
	if err := fault.Hit("fetch.installed"); err != nil {
		return err
	}
	dir := commit.LogDir(f.dir)
	// With the log goes what is beside it of the old past: above all how far readers had come there.
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := replog.MakeDir(dir); err != nil {
		return err
	}
	if err := fault.Hit("fetch.removed"); err != nil {
		return err
	}
	o := replog.Options{Cluster: f.link.Cluster, SegmentBytes: f.options.SegmentBytes}
	if err := replog.Create(dir, o, f.head.At, f.head.Epochs); err != nil {
		return err
	}
	return f.install.Commit()
}

// pages sends the hashes of what is here, a few messages ahead, and writes what comes for them.
func (f *fetch) pages(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	hashes := make(chan []byte, sumsAhead)
	var sending sync.WaitGroup
	defer sending.Wait()
	defer close(hashes)
	sending.Go(func() {
		for b := range hashes {
			if ctx.Err() != nil {
				continue
			}
			if err := f.w.write(kindSums, 0, 0, b); err != nil {
				cancel(err)
				_ = f.w.close()
			}
		}
	})
	chunks := chunksOf(f.head.Databases)
	ahead := 0
	for _, due := range chunks {
		for ; ahead < len(chunks) && len(hashes) < cap(hashes); ahead++ {
			b, err := f.hashes(chunks[ahead])
			if err != nil {
				_ = f.w.close()
				return &storageFailed{err}
			}
			hashes <- b
		}
		if err := f.chunk(due); err != nil {
			_ = f.w.close() // whoever sends hashes must not go on
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		f.done.Add(int64(due.Count) * pagestore.PageSize)
	}
	return nil
}

// hashes encodes what this node has of a chunk: nothing, when it has none of it.
func (f *fetch) hashes(c pageRun) ([]byte, error) {
	sums, err := f.install.Sums(c.Database)
	if err != nil {
		return nil, err
	}
	b := c.encode(make([]byte, 0, pageRunBytes))
	from := min(int(c.First)-1, len(sums))
	have := sums[from:min(from+c.Count, len(sums))]
	if len(have) == 0 {
		return b, nil
	}
	b = append(b, encodeSums(have)...)
	return append(b, make([]byte, 8*(c.Count-len(have)))...), nil
}

// chunk writes pages until the run of none that ends a chunk.
func (f *fetch) chunk(due pageRun) error {
	for {
		m, err := f.w.expectAlive(kindPages)
		if err != nil {
			return err
		}
		run, rest, err := decodePageRun(m.payload, shipRun)
		if err != nil {
			return err
		}
		if run.Database != due.Database || run.First < due.First || int(run.First-due.First)+run.Count > due.Count {
			return fmt.Errorf("%w: pages %v where %v were due", errBadMessage, run, due)
		}
		if run.Count == 0 {
			return nil
		}
		sums, content, err := decodeSums(rest, run.Count)
		if err != nil {
			return err
		}
		if len(content) != run.Count*pagestore.PageSize {
			return fmt.Errorf("%w: %d bytes for %v", errBadMessage, len(content), run)
		}
		if err := f.install.WriteRun(run.Database, run.First, content, sums); err != nil {
			if errors.Is(err, pagestore.ErrDamaged) {
				return err // on the way, or at the source: not this disk
			}
			return &storageFailed{err}
		}
		f.move.Add(int64(len(content)))
	}
}

// room looks, before anything is touched, whether the databases can fit.
func (f *fetch) room() error {
	free, _, err := space(f.dir)
	if err != nil {
		return fmt.Errorf("look for room: %w", err)
	}
	var need int64
	for _, db := range f.head.Databases {
		need += int64(db.Pages) * pagestore.PageSize
	}
	old, err := sizeOf(filepath.Join(f.dir, "db"), commit.LogDir(f.dir))
	if err != nil {
		return fmt.Errorf("look for room: %w", err)
	}
	if need > free+old {
		return fmt.Errorf("%w: it has %d bytes, and there is room for %d", ErrNoRoom, need, free+old)
	}
	return nil
}

// sizeOf sums up the files in directories that may be missing.
func sizeOf(dirs ...string) (total int64, err error) {
	for _, dir := range dirs {
		files, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
		for _, f := range files {
			if info, err := f.Info(); err == nil {
				total += info.Size()
			}
		}
	}
	return total, nil
}

// report calls Progress until stop, and once more then.
func (f *fetch) report(ctx context.Context) (stop func()) {
	if f.options.Progress == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	tell := func() {
		done := f.done.Load()
		f.options.Progress(Progress{Total: f.total.Load(), Done: done, Moved: f.move.Load(), Rate: rate(done, f.since, time.Now())})
	}
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(progressPace)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				tell()
				return
			case <-tick.C:
				tell()
			}
		}
	})
	return func() {
		cancel()
		telling.Wait()
	}
}
