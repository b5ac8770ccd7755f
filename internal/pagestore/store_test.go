package pagestore

import (
	"bytes"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"skein/internal/history"
	"skein/internal/replog"
)

// bench is a store with the log that a node would have beside it. Pages are of one byte throughout.
type bench struct {
	t       *testing.T
	dir     string
	options Options
	store   *Store
	mu      sync.Mutex // guards entries
	entries []replog.Entry
	visible atomic.Uint64
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, dir: t.TempDir()}
	b.open()
	t.Cleanup(func() { _ = b.store.Close() })
	return b
}

// open recovers: what was published since the checkpoint is replayed.
func (b *bench) open() {
	b.t.Helper()
	b.options.TempDir = b.dir
	s, err := Open(filepath.Join(b.dir, "db"), b.options)
	if err != nil {
		b.t.Fatal(err)
	}
	b.store = s
	for i := range b.entries {
		if e := b.entries[i]; e.LSN > s.CheckpointLSN() {
			if err := s.Redo(&e); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	if err := s.Verify(); err != nil {
		b.t.Fatalf("after redo from %d: %v", s.CheckpointLSN(), err)
	}
	b.visible.Store(uint64(len(b.entries)))
}

func (b *bench) reopen() {
	b.t.Helper()
	if err := b.store.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

func (b *bench) db(id history.DatabaseID) *DB {
	b.t.Helper()
	db, err := b.store.Create(id)
	if err != nil {
		b.t.Fatal(err)
	}
	return db
}

func filled(value byte) []byte { return bytes.Repeat([]byte{value}, PageSize) }

// publish commits writes, which give pages their byte, and leaves the database with so many pages. It is
// for one goroutine per database.
func (b *bench) publish(db *DB, pages uint32, writes map[PageNo]byte) history.LSN {
	b.t.Helper()
	var body []byte
	var list []Write
	var oldSums []uint64
	old := make([]byte, PageSize)
	for no, value := range writes {
		oldSum, err := db.ReadHead(no, old)
		if err != nil {
			b.t.Error(err)
			return 0
		}
		length := len(body)
		if body = replog.AppendPage(body, uint32(no), old, filled(value)); len(body) == length {
			continue
		}
		p := NewPage()
		copy(p.Bytes(), filled(value))
		list, oldSums = append(list, Write{no, p, PageSum(no, p.Bytes())}), append(oldSums, oldSum)
	}
	s, err := db.After(pages, list, oldSums)
	if err != nil {
		b.t.Error(err)
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.LSN = history.LSN(len(b.entries) + 1)
	db.Publish(s, list, history.LSN(b.visible.Load()))
	b.entries = append(b.entries, replog.Entry{
		Kind: replog.Transaction, Database: db.ID, LSN: s.LSN, Pages: s.Pages, Checksum: s.Checksum, Body: body,
	})
	return s.LSN
}

func (b *bench) commit(db *DB, pages uint32, writes map[PageNo]byte) {
	b.t.Helper()
	b.visible.Store(uint64(b.publish(db, pages, writes)))
}

func (b *bench) checkpoint() {
	b.t.Helper()
	if err := b.store.Checkpoint(history.LSN(b.visible.Load())); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) snapshot(db *DB) *Snapshot {
	return db.Snapshot(history.LSN(b.visible.Load()))
}

func (b *bench) want(s *Snapshot, no PageNo, value byte) {
	b.t.Helper()
	got := make([]byte, PageSize)
	if err := s.ReadPage(no, got); err != nil || !bytes.Equal(got, filled(value)) {
		b.t.Errorf("page %d at %d: %d… (%v), want %d", no, s.State().LSN, got[0], err, value)
	}
}

// checkImage pins all databases and compares their pages with their hashes and checksums.
func (b *bench) checkImage() {
	i, err := b.store.Pin(history.LSN(b.visible.Load()))
	if err != nil {
		b.t.Error(err)
		return
	}
	defer i.Close()
	for _, db := range i.Databases() {
		sums, err := i.Sums(db.ID, 1, int(db.Pages))
		if err != nil {
			b.t.Error(err)
			return
		}
		numbers, content := make([]PageNo, len(sums)), make([]byte, len(sums)*PageSize)
		for n := range numbers {
			numbers[n] = PageNo(n + 1)
		}
		if err := i.ReadPages(db.ID, numbers, content); err != nil {
			b.t.Error(err)
			return
		}
		var total uint64
		for n, no := range numbers {
			if s := PageSum(no, content[n*PageSize:(n+1)*PageSize]); s != sums[n] {
				b.t.Errorf("page %d of database %d at %d has the hash %x, want %x", no, db.ID, i.LSN, s, sums[n])
			}
			total ^= sums[n]
		}
		if total != db.Checksum {
			b.t.Errorf("database %d at %d has the checksum %x, want %x", db.ID, i.LSN, total, db.Checksum)
		}
	}
}

func TestACutThatAnOlderSnapshotKeepsDoesNotEmptyAPageWrittenSince(t *testing.T) {
	b := newBench(t)
	db := b.db(2)
	b.commit(db, 3, map[PageNo]byte{1: 1})
	b.snapshot(db)
	b.commit(db, 5, map[PageNo]byte{5: 2})
	b.commit(db, 3, nil)
	b.commit(db, 5, map[PageNo]byte{5: 4})
	b.checkpoint()
	s := b.snapshot(db)
	b.commit(db, 5, map[PageNo]byte{5: 5})
	b.checkpoint()
	b.want(s, 5, 4)
}

func TestAPageThatWasCutStaysZerosForLaterSnapshots(t *testing.T) {
	b := newBench(t)
	db := b.db(2)
	b.commit(db, 5, map[PageNo]byte{4: 1, 5: 1})
	b.checkpoint()
	before := b.snapshot(db)
	b.commit(db, 3, nil)
	b.commit(db, 5, map[PageNo]byte{5: 2})
	b.checkpoint()
	after := b.snapshot(db)
	b.want(before, 4, 1)
	before.Close()
	b.commit(db, 5, map[PageNo]byte{1: 3})
	b.checkpoint()
	b.want(after, 4, 0)
	b.commit(db, 5, map[PageNo]byte{4: 7})
	b.reopen()
}

func TestAVersionThatWasNeverInTheBaseFileOutlivesACutAndACheckpoint(t *testing.T) {
	b := newBench(t)
	db := b.db(2)
	b.commit(db, 5, map[PageNo]byte{1: 1})
	b.checkpoint()
	b.commit(db, 5, map[PageNo]byte{5: 2})
	s := b.snapshot(db)
	b.commit(db, 3, nil)
	b.checkpoint()
	b.want(s, 5, 2)
}

func TestZerosStayZerosForASnapshotWhenThePageIsWrittenAndCheckpointed(t *testing.T) {
	b := newBench(t)
	db := b.db(2)
	b.commit(db, 5, map[PageNo]byte{1: 1})
	b.checkpoint()
	b.commit(db, 8, map[PageNo]byte{1: 2})
	s := b.snapshot(db)
	b.commit(db, 8, map[PageNo]byte{8: 3})
	b.checkpoint()
	b.want(s, 8, 0)
}

// SQLite does so when a transaction fills pages at the end and frees them again.
func TestLastPagesThatWereNeverWrittenCanBeReadAfterACheckpoint(t *testing.T) {
	b := newBench(t)
	db := b.db(2)
	b.commit(db, 5, map[PageNo]byte{1: 1})
	b.checkpoint()
	b.want(b.snapshot(db), 5, 0)
	b.commit(db, 5, map[PageNo]byte{5: 2})
	b.checkpoint()
	b.want(b.snapshot(db), 5, 2)
}

// The LSN that a checkpoint is asked for may be a moment old: a database that has committed since has
// forgotten its state as of then. The checkpoint must not claim what it has not written.
func TestACheckpointOfAStateThatIsForgottenIsOneOfALaterState(t *testing.T) {
	b := newBench(t)
	db := b.db(2)
	for value := byte(1); value <= 3; value++ {
		b.commit(db, 5, map[PageNo]byte{PageNo(value): value})
	}
	if err := b.store.Checkpoint(1); err != nil {
		t.Fatal(err)
	}
	if at := b.store.CheckpointLSN(); at < 1 || at > 3 {
		t.Fatalf("the checkpoint stands at %d", at)
	}
	b.reopen()
	for value := byte(1); value <= 3; value++ {
		b.want(b.snapshot(b.db(2)), PageNo(value), value)
	}
}

// The writer does not wait for a checkpoint: what it writes over meanwhile must still get into the base file.
func TestStore_B03_ACheckpointWritesItsStateWhileTheWriterGoesOn(t *testing.T) {
	b := newBench(t)
	db := b.db(2)
	b.commit(db, 5, map[PageNo]byte{1: 1, 5: 1})
	p := b.store.plan(1)
	for value := byte(2); value <= 4; value++ {
		b.commit(db, 5, map[PageNo]byte{1: value, 5: value})
	}
	target, pages, err := db.writeBase()
	if err != nil {
		t.Fatal(err)
	}
	if p.to != 1 || target.LSN != 1 {
		t.Fatalf("the checkpoint at %d stands for %+v", p.to, target)
	}
	got := make([]byte, PageSize)
	for _, no := range []PageNo{1, 5} {
		if _, err := db.base.ReadAt(got, int64(no-1)*PageSize); err != nil || !bytes.Equal(got, filled(1)) {
			t.Errorf("page %d of the base file: %d… (%v), want 1", no, got[0], err)
		}
	}
	if err := db.adopt(target, p.to, pages); err != nil {
		t.Fatal(err)
	}
	b.want(b.snapshot(db), 5, 4)
	b.checkpoint()
	if held := b.store.HeldBytes(); held != 0 {
		t.Errorf("%d bytes are held that nobody needs", held)
	}
}

func TestADroppedDatabaseStaysUntilTheLogBeginsBehindIt(t *testing.T) {
	b := newBench(t)
	b.commit(b.db(2), 1, map[PageNo]byte{1: 1})
	b.commit(b.db(3), 2, map[PageNo]byte{1: 2, 2: 2})
	b.checkpoint()
	b.publish(b.db(3), 2, map[PageNo]byte{2: 3}) // not yet flushed when the checkpointer looks
	b.store.Drop(3)
	b.checkpoint()
	b.reopen()
	b.want(b.snapshot(b.db(3)), 2, 3)
	b.store.Drop(3)
	b.checkpoint()
	b.reopen()
	if b.store.DB(3) != nil {
		t.Error("the database is back")
	}
}

// What an ended snapshot needed is given back even when there is nothing new to checkpoint: otherwise
// ending the oldest snapshots would end all of them.
func TestACheckpointWithoutNewEntriesDropsWhatNobodyNeeds(t *testing.T) {
	b := newBench(t)
	db := b.db(2)
	b.commit(db, 1, map[PageNo]byte{1: 1})
	s := db.Snapshot(1)
	b.commit(db, 1, map[PageNo]byte{1: 2})
	b.checkpoint()
	b.want(s, 1, 1)
	if !db.KillOldest(2) {
		t.Fatal("no snapshot was ended")
	}
	b.checkpoint()
	if held := b.store.HeldBytes(); held != 0 {
		t.Errorf("%d bytes are held that nobody needs", held)
	}
	if err := s.ReadPage(1, make([]byte, PageSize)); !errors.Is(err, ErrSnapshotTooOld) {
		t.Errorf("error %v, want %v", err, ErrSnapshotTooOld)
	}
	s.Close()
}

// While nothing becomes visible, or in a database that nobody writes to, ending the readers would give nothing back.
func TestASnapshotThatIsStillTheNewestIsNotTheOldest(t *testing.T) {
	b := newBench(t)
	idle := b.db(3)
	b.commit(idle, 1, map[PageNo]byte{1: 1})
	s := idle.Snapshot(1)
	defer s.Close()
	for i := range 3 {
		b.commit(b.db(2), 1, map[PageNo]byte{1: byte(i)})
	}
	if idle.KillOldest(4) {
		t.Error("a snapshot was ended that a new one would be equal to")
	}
	b.want(s, 1, 1)
}

// Two writers, readers and a checkpointer at full speed; then a crash. Every page of a database is
// written in some transactions, page 1 in all, and holds the number of the last one that wrote it, so
// every snapshot can be checked against its number alone.
func TestReadersWritersAndCheckpointsAtOnce(t *testing.T) {
	const pages, rounds = 24, 2000
	b := newBench(t)
	state := func(round int, no PageNo) byte { // the content after a round
		for r := round; r > 0; r-- {
			if no == 1 || r%int(no) == 0 {
				return byte(r)
			}
		}
		return 0
	}
	var rounding [2]sync.Map // LSN → round
	stop := make(chan struct{})
	var writers, others sync.WaitGroup
	for i := range 2 {
		db := b.db(history.DatabaseID(2 + i))
		writers.Go(func() {
			for round := 1; round <= rounds && !t.Failed(); round++ {
				size := uint32(pages - round%7)
				writes := map[PageNo]byte{}
				for no := PageNo(1); uint32(no) <= pages-7; no++ {
					if no == 1 || round%int(no) == 0 {
						writes[no] = byte(round)
					}
				}
				lsn := b.publish(db, size, writes)
				rounding[i].Store(lsn, round)
				for at := b.visible.Load(); at < uint64(lsn) && !b.visible.CompareAndSwap(at, uint64(lsn)); at = b.visible.Load() {
				}
			}
		})
		for range 2 {
			others.Go(func() {
				got := make([]byte, PageSize)
				for {
					select {
					case <-stop:
						return
					default:
					}
					s := db.Snapshot(history.LSN(b.visible.Load()))
					round := 0
					for s.State().LSN > 0 && round == 0 { // the writer is about to note it
						if r, ok := rounding[i].Load(s.State().LSN); ok {
							round = r.(int)
						}
					}
					for no := PageNo(1); no <= pages-7; no++ {
						if err := s.ReadPage(no, got); err != nil || (round > 0 && !bytes.Equal(got, filled(state(round, no)))) {
							t.Errorf("database %d page %d at %d: %d… (%v), want %d", db.ID, no, s.State().LSN, got[0], err, state(round, no))
						}
					}
					s.Close()
					if t.Failed() {
						return
					}
				}
			})
		}
	}
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := b.store.Checkpoint(history.LSN(b.visible.Load())); err != nil {
				t.Error(err)
				return
			}
		}
	})
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			b.checkImage()
		}
	})
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			err := b.store.Scrub(t.Context(), 2, func(int) error { return nil }, func(no PageNo, _ uint64) {
				t.Errorf("the scrub says that page %d is bad", no)
			})
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	writers.Wait()
	close(stop)
	others.Wait()
	if t.Failed() {
		return
	}
	b.reopen()
	for i := range 2 {
		db := b.db(history.DatabaseID(2 + i))
		for no := PageNo(1); no <= pages-7; no++ {
			b.want(b.snapshot(db), no, state(rounds, no))
		}
	}
}
