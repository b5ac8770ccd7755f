package replication

import (
	"context"
	"errors"
	"fmt"
	"iter"
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
	"skein/internal/rest"
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
	// Node and Disk are who has to answer at the address, "" for anybody of the cluster, and Under is the epoch that it must have begun: one
	// that was replaced, and does not know it, would give what the cluster does not have.
	Node, Disk string
	Under      history.Epoch
	// NotBelow is the position up to which this node's readers have seen; a snapshot of the same history
	// that does not reach it is refused until the source has come further.
	NotBelow history.Position
	// Reread has every page of an older copy read, however sure it is what is in them: pages of it are damaged, or
	// came to be wrong in a way that nobody knows.
	Reread bool
	// SegmentBytes is the size of the new log's segments, 0 for the default.
	SegmentBytes int64
	// Progress, if any, is called several times a second, from one goroutine.
	Progress func(Progress)
}

// Fetch makes the node in dir, whose storage nobody has open, a copy of the one at address: its databases
// as of one entry, and a log that begins behind it, which is where Follow can go on. Pages that an
// older copy, or an interrupted Fetch, has right do not travel, nor are they read where their hashes are known. From the
// first page on until it is complete the directory cannot be opened, after a crash neither; another Fetch goes on where it
// stopped.
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
		_ = rest.For(ctx, retry.next())
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
	w, who, err := l.dial(ctx, address, toFetch)
	if err != nil {
		return at, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = w.close() }()
	if err := who.is(o.Node, o.Disk); err != nil {
		return at, err
	}
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
	if m.epoch < o.Under {
		return at, fmt.Errorf("%w: it is in epoch %d, not yet in %d", errNotYet, m.epoch, o.Under)
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
	if f.install, err = pagestore.BeginInstall(filepath.Join(f.dir, "db"), f.options.Reread); err != nil {
		return &storageFailed{err}
	}
	defer func() { err = errors.Join(err, f.install.Close()) }()
	differ, err := f.compare(ctx)
	if err != nil {
		return err
	}
	if err := f.install.Mark(differ); err != nil {
		return &storageFailed{err}
	}
	if err := f.pages(ctx, differ); err != nil {
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

// compare finds the pages that this node does not have right: first by digests, then by the hashes of those
// blocks that differ.
func (f *fetch) compare(ctx context.Context) (differ []pagestore.Run, err error) {
	var all []pagestore.Run
	for _, db := range f.head.Databases {
		f.total.Add(int64(db.Pages) * pagestore.PageSize)
		all = append(all, pagestore.Run{Database: db.ID, First: 1, Count: int(db.Pages)})
		// All older copies are read before the first page travels: then nobody waits for a disk with a full network.
		if _, err := f.install.Sums(db.ID); err != nil {
			return nil, &storageFailed{err}
		}
	}
	blocks, err := f.differing(ctx, asks(wantDigests, all))
	if err != nil {
		return nil, err
	}
	return f.differing(ctx, asks(wantHashes, blocks))
}

// differing gives the pages that the answers show to be others than those that are here.
func (f *fetch) differing(ctx context.Context, asks iter.Seq[ask]) (differ []pagestore.Run, err error) {
	err = f.exchange(ctx, asks, func(a ask, given []byte) error {
		for _, r := range a.runs {
			mine, each := f.mine(r), 1
			if a.what == wantDigests {
				mine, each = digests(mine, r.Count), digestBlock
			}
			theirs, rest, err := decodeSums(given, len(mine))
			if err != nil {
				return err
			}
			given = rest
			for i := range mine {
				at := pagestore.Run{Database: r.Database, First: r.First + pagestore.PageNo(i*each), Count: min(each, r.Count-i*each)}
				if mine[i] == theirs[i] {
					f.done.Add(int64(at.Count) * pagestore.PageSize)
				} else {
					differ = join(differ, at)
				}
			}
		}
		return nil
	})
	return differ, err
}

// mine gives the hashes of pages that are here; of those that are not, zeros, which stand for a page of zeros.
func (f *fetch) mine(r pagestore.Run) []uint64 {
	have, _ := f.install.Sums(r.Database) // compare has asked before
	from := min(int(r.First)-1, len(have))
	sums := make([]uint64, r.Count)
	copy(sums, have[from:])
	return sums
}

// join adds a run, to the last one if it goes on there.
func join(runs []pagestore.Run, r pagestore.Run) []pagestore.Run {
	if n := len(runs); n > 0 {
		if last := &runs[n-1]; last.Database == r.Database && int(last.First)+last.Count == int(r.First) {
			last.Count += r.Count
			return runs
		}
	}
	return append(runs, r)
}

// pages has the pages that differ sent, and writes them while the next ones come in.
func (f *fetch) pages(ctx context.Context, differ []pagestore.Run) error {
	var count encoder
	count.u64(uint64(ask{runs: differ}.pages()))
	if err := f.w.write(kindDiffering, 0, 0, count.b); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	arrived, free := make(chan arrival, writesAhead), make(chan []byte, writesAhead)
	for range writesAhead {
		free <- nil
	}
	var writing sync.WaitGroup
	writing.Go(func() {
		for a := range arrived {
			if ctx.Err() == nil {
				if err := f.write(a); err != nil {
					cancel(err)
				}
			}
			free <- a.given
		}
	})
	err := f.exchange(ctx, asks(wantPages, differ), func(a ask, given []byte) error {
		select {
		case next := <-free:
			arrived <- arrival{a, given}
			f.w.body = next // given is the writer's now
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(arrived)
	writing.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// writesAhead is how many messages with pages may wait until those before them are written.
const writesAhead = 4

// arrival is what was asked for, and came.
type arrival struct {
	ask   ask
	given []byte
}

// write puts the pages in place that came.
func (f *fetch) write(a arrival) error {
	sums, content, err := decodeSums(a.given, a.ask.pages())
	if err != nil {
		return err
	}
	if len(content) != len(sums)*pagestore.PageSize {
		return fmt.Errorf("%w: %d bytes for %d pages", errBadMessage, len(content), len(sums))
	}
	for _, r := range a.ask.runs {
		n := r.Count * pagestore.PageSize
		if err := f.install.WriteRun(r.Database, r.First, content[:n], sums[:r.Count]); err != nil {
			if errors.Is(err, pagestore.ErrDamaged) {
				return err // on the way, or at the source: not this disk
			}
			return &storageFailed{err}
		}
		sums, content = sums[r.Count:], content[n:]
		f.done.Add(int64(n))
		f.move.Add(int64(n))
	}
	return nil
}

// exchange asks, some messages ahead of what was answered, and hands each answer on.
func (f *fetch) exchange(ctx context.Context, asks iter.Seq[ask], take func(a ask, given []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	asked := make(chan ask, asksAhead)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel(nil)
	asking.Go(func() {
		defer close(asked)
		for a := range asks {
			select {
			case asked <- a:
			case <-ctx.Done():
				return
			}
			if err := f.w.write(kindAsk, 0, 0, a.encode()); err != nil {
				cancel(err)
				_ = f.w.close()
				return
			}
		}
	})
	for a := range asked {
		m, err := f.w.expectAlive(kindGiven)
		if err == nil {
			err = take(a, m.payload)
		}
		if err != nil {
			cause := context.Cause(ctx)
			_ = f.w.close() // whoever asks must not go on
			if cause != nil {
				return cause
			}
			return err
		}
	}
	return context.Cause(ctx)
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
