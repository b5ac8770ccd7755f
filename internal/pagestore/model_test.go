package pagestore

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"skein/internal/history"
	"skein/internal/replog"
)

const (
	modelDB       = history.DatabaseID(2)
	modelMaxPages = 12
)

var zeroPage = make([]byte, PageSize)

// image is a whole database at one LSN; a page that is missing, or nil, is zeros.
type image struct {
	pages   uint32
	content map[PageNo][]byte
}

func (i image) page(no PageNo) []byte {
	if p := i.content[no]; p != nil && uint32(no) <= i.pages {
		return p
	}
	return zeroPage
}

func (i image) checksum() uint64 {
	var total uint64
	for no := PageNo(1); uint32(no) <= i.pages; no++ {
		total ^= sum(no, i.page(no))
	}
	return total
}

// model is the page store beside what it must be: every state that ever was, in full.
type model struct {
	dir      string
	maxBytes int64
	store    *Store
	db       *DB
	visible  history.LSN
	images   []image        // by LSN
	entries  []replog.Entry // by LSN, from 1
	readers  []*reader
}

type reader struct {
	*Snapshot
	killed bool
}

func newModel(t *rapid.T) *model {
	dir, err := os.MkdirTemp("", "pagestore")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m := &model{
		dir: dir, images: []image{{}}, entries: make([]replog.Entry, 1),
		maxBytes: rapid.SampledFrom([]int64{2 * PageSize, 1 << 20}).Draw(t, "MaxBytes"),
	}
	m.open(t)
	t.Cleanup(func() { _ = m.store.Close() })
	return m
}

func (m *model) head() history.LSN { return history.LSN(len(m.images) - 1) }

// open recovers as commit.Open does.
func (m *model) open(t *rapid.T) {
	s, err := Open(filepath.Join(m.dir, "db"), Options{TempDir: m.dir, MaxBytes: m.maxBytes})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	m.store = s
	from := s.CheckpointLSN()
	if from > m.visible {
		t.Fatalf("the checkpoint stands at %d, beyond what was visible: %d", from, m.visible)
	}
	for lsn := from + 1; lsn <= m.head(); lsn++ {
		e := m.entries[lsn]
		if err := s.Redo(&e); err != nil {
			t.Fatalf("redo entry %d: %v", lsn, err)
		}
	}
	if err := s.Verify(); err != nil {
		t.Fatalf("after redo from %d to %d: %v", from, m.head(), err)
	}
	if m.db, err = s.Create(modelDB); err != nil {
		t.Fatal(err)
	}
	m.visible = m.head()
}

// publish commits a transaction of some page writes and a size.
func (m *model) publish(t *rapid.T) {
	before := m.images[m.head()]
	after := image{max(before.pages, 1), maps.Clone(before.content)}
	if after.content == nil {
		after.content = map[PageNo][]byte{}
	}
	switch rapid.IntRange(0, 4).Draw(t, "resize") {
	case 0:
		after.pages = rapid.Uint32Range(1, modelMaxPages).Draw(t, "pages")
	case 1:
		after.pages = min(after.pages+1, modelMaxPages)
	}
	for no := after.pages + 1; no <= before.pages; no++ {
		delete(after.content, PageNo(no))
	}
	numbers := rapid.SliceOfNDistinct(rapid.Uint32Range(1, after.pages), 0, 4, rapid.ID).Draw(t, "writes")
	slices.Sort(numbers)
	var body []byte
	var writes []Write
	var oldSums []uint64
	old := make([]byte, PageSize)
	for _, n := range numbers {
		no := PageNo(n)
		content := changed(t, before.page(no))
		oldSum, err := m.db.ReadHead(no, old)
		if err != nil {
			t.Fatalf("read page %d at the head: %v", no, err)
		}
		if !bytes.Equal(old, before.page(no)) {
			t.Fatalf("page %d at the head, entry %d, is not what was written", no, m.head())
		}
		length := len(body)
		if body = replog.AppendPage(body, n, old, content); len(body) == length {
			continue
		}
		p := NewPage()
		copy(p.Bytes(), content)
		writes, oldSums = append(writes, Write{no, p, PageSum(no, content)}), append(oldSums, oldSum)
		after.content[no] = content
	}
	if len(writes) == 0 && after.pages == before.pages {
		return
	}
	s, err := m.db.After(after.pages, writes, oldSums)
	if err != nil {
		t.Fatal(err)
	}
	if want := after.checksum(); s.Checksum != want {
		t.Fatalf("checksum after entry %d is %016x, want %016x", m.head()+1, s.Checksum, want)
	}
	s.LSN = m.head() + 1
	m.db.Publish(s, writes, m.visible)
	m.images = append(m.images, after)
	m.entries = append(m.entries, replog.Entry{
		Kind: replog.Transaction, Database: modelDB, LSN: s.LSN, Pages: s.Pages, Checksum: s.Checksum, Body: body,
	})
}

// changed gives a page that differs from old in a few bytes, in all, or that is zeros.
func changed(t *rapid.T, old []byte) []byte {
	page := bytes.Clone(old)
	value := rapid.Byte().Draw(t, "value")
	switch rapid.IntRange(0, 5).Draw(t, "change") {
	case 0:
		clear(page)
	case 1:
		copy(page, bytes.Repeat([]byte{value, 1, 2, value, 3, 4, value, 5}, PageSize/8))
	default:
		page[rapid.IntRange(0, 40).Draw(t, "at")*100] = value
	}
	return page
}

func (m *model) advance(t *rapid.T) {
	m.visible = history.LSN(rapid.Uint64Range(uint64(m.visible), uint64(m.head())).Draw(t, "visible"))
}

func (m *model) checkpoint(t *rapid.T) {
	to := history.LSN(rapid.Uint64Range(0, uint64(m.visible)).Draw(t, "to"))
	if err := m.store.Checkpoint(to); err != nil {
		t.Fatalf("checkpoint at %d: %v", to, err)
	}
	if at := m.store.CheckpointLSN(); at < to || at > m.visible {
		t.Fatalf("checkpoint at %d, with %d visible, came to stand at %d", to, m.visible, at)
	}
}

// failCheckpoint has the disk fail between the base files and the checkpoint file.
func (m *model) failCheckpoint(t *rapid.T) {
	blocked := filepath.Join(m.dir, "db", checkpointFile+".new")
	if err := os.Mkdir(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	at := m.store.CheckpointLSN()
	if err := m.store.Checkpoint(m.visible); err == nil && m.visible > at {
		t.Fatal("a checkpoint that could not be recorded has succeeded")
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
}

func (m *model) openReader(t *rapid.T) {
	if len(m.readers) == 5 {
		m.closeReader(t)
	}
	want := m.visible
	s := m.db.Snapshot(want)
	if rapid.IntRange(0, 5).Draw(t, "writer") == 0 {
		s.Close()
		s, want = m.db.SnapshotHead(), m.head()
	}
	if got := s.State(); got.LSN != want || got.Pages != m.images[want].pages || got.Checksum != m.images[want].checksum() {
		t.Fatalf("a snapshot at %d stands on %+v", want, got)
	}
	m.readers = append(m.readers, &reader{Snapshot: s})
}

func (m *model) closeReader(t *rapid.T) {
	if len(m.readers) == 0 {
		t.Skip("none is open")
	}
	i := rapid.IntRange(0, len(m.readers)-1).Draw(t, "reader")
	m.readers[i].Close()
	m.readers = slices.Delete(m.readers, i, i+1)
}

func (m *model) killOldest(t *rapid.T) {
	below := history.LSN(rapid.Uint64Range(0, uint64(m.visible)).Draw(t, "below"))
	oldest := below
	for _, r := range m.readers {
		if !r.killed {
			oldest = min(oldest, r.State().LSN)
		}
	}
	if killed := m.db.KillOldest(below); killed != (oldest < below) {
		t.Fatalf("kill below %d: %v, but the oldest snapshot is at %d", below, killed, oldest)
	}
	for _, r := range m.readers {
		r.killed = r.killed || (oldest < below && r.State().LSN == oldest)
	}
}

func (m *model) reopen(t *rapid.T) {
	m.readers = nil
	if err := m.store.Close(); err != nil {
		t.Fatal(err)
	}
	m.open(t)
}

// check compares everything that can be read with what it must be.
func (m *model) check(t *rapid.T) {
	got := make([]byte, PageSize)
	for _, r := range m.readers {
		at := r.State().LSN
		for no := PageNo(1); no <= modelMaxPages+1; no++ {
			err := r.ReadPage(no, got)
			if r.killed != errors.Is(err, ErrSnapshotTooOld) || (err != nil && !r.killed) {
				t.Fatalf("page %d at %d, killed=%v: %v", no, at, r.killed, err)
			}
			if err == nil && !bytes.Equal(got, m.images[at].page(no)) {
				t.Fatalf("page %d at %d is not what was written (head %d, checkpoint %d)", no, at, m.head(), m.store.CheckpointLSN())
			}
		}
	}
	head := m.images[m.head()]
	for no := PageNo(1); no <= modelMaxPages+1; no++ {
		s, err := m.db.ReadHead(no, got)
		if err != nil || !bytes.Equal(got, head.page(no)) || s != sum(no, got) {
			t.Fatalf("page %d at the head, entry %d: %v, or not what was written, or not its sum", no, m.head(), err)
		}
	}
}

// finish lets go of everything: nothing may be held that nobody needs, and the base file is the
// database.
func (m *model) finish(t *rapid.T) {
	for _, r := range m.readers {
		r.Close()
	}
	m.visible = m.head()
	if err := m.store.Checkpoint(m.visible); err != nil {
		t.Fatal(err)
	}
	if held := m.store.HeldBytes(); held != 0 || len(m.db.pages)+len(m.db.pins)+len(m.db.stale)+len(m.db.cuts) > 0 {
		t.Fatalf("%d bytes are held that nobody needs: %d chains, %d pins, %d stale, %d cuts",
			held, len(m.db.pages), len(m.db.pins), len(m.db.stale), len(m.db.cuts))
	}
	head := m.images[m.head()]
	base, err := os.ReadFile(m.db.base.Name())
	if err != nil {
		t.Fatal(err)
	}
	if len(base) != int(head.pages)*PageSize {
		t.Fatalf("the base file has %d bytes, want %d pages", len(base), head.pages)
	}
	for no := PageNo(1); uint32(no) <= head.pages; no++ {
		if !bytes.Equal(base[int(no-1)*PageSize:int(no)*PageSize], head.page(no)) {
			t.Fatalf("page %d of the base file is not what was written", no)
		}
	}
}

func TestStoreIsWhatWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		t.Repeat(map[string]func(*rapid.T){
			"publish":        m.publish,
			"publish again":  m.publish,
			"advance":        m.advance,
			"checkpoint":     m.checkpoint,
			"failCheckpoint": m.failCheckpoint,
			"openReader":     m.openReader,
			"closeReader":    m.closeReader,
			"killOldest":     m.killOldest,
			"reopen":         m.reopen,
			"":               m.check,
		})
		m.finish(t)
		m.readers = nil
		m.reopen(t)
		m.check(t)
	})
}
