package pagestore

import (
	"bytes"
	"context"
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
	ended error
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

// open recovers as commit.Open does: what is known to be committed in place, the rest as versions that may
// be taken back.
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
	m.visible = history.LSN(rapid.Uint64Range(uint64(s.Reach()), uint64(m.head())).Draw(t, "committed"))
	ends := m.visible
	if rapid.IntRange(0, 3).Draw(t, "interrupted") == 0 {
		ends = history.LSN(rapid.Uint64Range(uint64(from), uint64(m.visible)).Draw(t, "at"))
	}
	for lsn := from + 1; lsn <= ends; lsn++ {
		e := m.entries[lsn]
		if err := s.Redo(&e); err != nil {
			t.Fatalf("redo entry %d: %v", lsn, err)
		}
	}
	if ends < m.visible {
		m.visible = ends
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		m.open(t)
		return
	}
	if err := s.Verify(); err != nil {
		t.Fatalf("after redo from %d to %d: %v", from, m.visible, err)
	}
	if n := s.Reread(); n > 0 {
		t.Fatalf("read all %d pages, after redo from %d to %d", n, from, m.visible)
	}
	m.checkSums(t)
	for lsn := m.visible + 1; lsn <= m.head(); lsn++ {
		e := m.entries[lsn]
		if err := s.Apply(&e, m.visible); err != nil {
			t.Fatal(err)
		}
	}
	if m.db, err = s.Create(modelDB); err != nil {
		t.Fatal(err)
	}
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
	var ends []int
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
		ends = append(ends, len(body))
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
	e := replog.Entry{
		Kind: replog.Transaction, Database: modelDB, LSN: s.LSN, Pages: s.Pages, Checksum: s.Checksum, Body: body,
	}
	if rapid.Bool().Draw(t, "apply") {
		for _, w := range writes {
			w.Page.Release()
		}
		m.apply(t, e, ends)
	} else {
		m.db.Publish(s, writes, m.visible)
	}
	m.images = append(m.images, after)
	m.entries = append(m.entries, e)
}

// apply does what a follower does with e, whole or in pieces, of which some may have come before in vain.
// ends are where the pages in its body end.
func (m *model) apply(t *rapid.T, e replog.Entry, ends []int) {
	wrong := e
	wrong.Checksum++
	if err := m.store.Apply(&wrong, m.visible); !errors.Is(err, ErrDiverged) {
		t.Fatalf("an entry with a wrong checksum: %v", err)
	}
	pieces := 0
	if len(ends) > 0 {
		pieces = rapid.IntRange(0, len(ends)).Draw(t, "pieces")
	}
	if pieces > 0 && rapid.Bool().Draw(t, "in vain") {
		m.applyPieces(t, e, ends[:pieces], true)
	}
	m.applyPieces(t, e, ends[:pieces], false)
}

func (m *model) applyPieces(t *rapid.T, e replog.Entry, ends []int, more bool) {
	body, from := e.Body, 0
	for _, end := range ends {
		e.Body, e.More = body[from:end], true
		if err := m.store.Apply(&e, m.visible); err != nil {
			t.Fatal(err)
		}
		e.Chunk, from = e.Chunk+1, end
	}
	if more {
		return
	}
	e.Body, e.More = body[from:], false
	if err := m.store.Apply(&e, m.visible); err != nil {
		t.Fatal(err)
	}
}

// cutBack takes back entries that nobody has seen, and tries it with some that have been.
func (m *model) cutBack(t *rapid.T) {
	low := max(m.visible, m.store.CheckpointLSN())
	if low > 0 {
		if err := m.store.CutAbove(m.store.CheckpointLSN() - 1); m.store.CheckpointLSN() > 0 && !errors.Is(err, ErrNotAbove) {
			t.Fatalf("cut below the checkpoint: %v", err)
		}
	}
	to := history.LSN(rapid.Uint64Range(uint64(low), uint64(m.head())).Draw(t, "cut to"))
	if err := m.store.CutAbove(to); err != nil {
		t.Fatal(err)
	}
	m.images, m.entries = m.images[:to+1], m.entries[:to+1]
	for _, r := range m.readers {
		if r.ended == nil && r.State().LSN > to {
			r.ended = ErrTakenBack
		}
	}
}

// rot has pages of the base file go bad. A scrub finds them, and no others, and they can be repaired.
func (m *model) rot(t *rapid.T) {
	numbers := rapid.SliceOfNDistinct(rapid.Uint32Range(1, modelMaxPages), 0, 3, rapid.ID).Draw(t, "rot")
	slices.Sort(numbers)
	var want, got []PageNo
	sums := map[PageNo]uint64{}
	for _, n := range numbers {
		no := PageNo(n)
		s, ok := m.db.wanted(no)
		if !ok {
			continue
		}
		want, sums[no] = append(want, no), s
		if _, err := m.db.base.WriteAt([]byte("rotten"), int64(no-1)*PageSize+1000); err != nil {
			t.Fatal(err)
		}
	}
	scrub := func() (got []PageNo) {
		err := m.store.Scrub(context.Background(), modelDB, func(int) error { return nil }, func(no PageNo, s uint64) {
			got = append(got, no)
			if s != sums[no] {
				t.Fatalf("page %d must have the hash %x, want %x", no, s, sums[no])
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got = scrub(); !slices.Equal(got, want) {
		t.Fatalf("the scrub has found %v, want %v", got, want)
	}
	image := m.images[m.db.floor]
	page := make([]byte, PageSize)
	for _, no := range want {
		if err := m.store.Repair(modelDB, no, sums[no], filled(99)); !errors.Is(err, ErrDamaged) {
			t.Fatalf("repaired with other content: %v", err)
		}
		if err := m.store.Repair(modelDB, no, sums[no]+1, page); err == nil {
			t.Fatal("repaired with other content")
		}
		if err := m.store.Repair(modelDB, no, sums[no], image.page(no)); err != nil {
			t.Fatal(err)
		}
		if !m.store.Find(modelDB, no, sums[no], page) || !bytes.Equal(page, image.page(no)) {
			t.Fatalf("page %d is not found by its hash", no)
		}
	}
	if got := scrub(); len(got) > 0 {
		t.Fatalf("after the repair, the scrub has found %v", got)
	}
}

// pin compares an image with what it must be.
func (m *model) pin(t *rapid.T) {
	lsn := history.LSN(rapid.Uint64Range(0, uint64(m.visible)).Draw(t, "pin"))
	i, err := m.store.Pin(lsn)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	want := m.images[i.LSN]
	if want := max(lsn, m.db.floor); i.LSN != want {
		t.Fatalf("the image is of entry %d, want %d", i.LSN, want)
	}
	if want.pages == 0 {
		if len(i.Databases()) != 0 {
			t.Fatalf("the image has %v", i.Databases())
		}
		return
	}
	if got := i.Databases(); len(got) != 1 || got[0] != (ImageDB{modelDB, want.pages, want.checksum()}) {
		t.Fatalf("the image has %v", got)
	}
	sums, err := i.Sums(modelDB, 1, modelMaxPages+5)
	if err != nil || len(sums) != int(want.pages) {
		t.Fatalf("%d sums, %v", len(sums), err)
	}
	numbers := rapid.SliceOfN(rapid.Uint32Range(1, want.pages), 1, 5).Draw(t, "numbers")
	slices.Sort(numbers)
	var list []PageNo
	for _, n := range numbers {
		list = append(list, PageNo(n))
	}
	dst := make([]byte, len(list)*PageSize)
	if err := i.ReadPages(modelDB, list, dst); err != nil {
		t.Fatal(err)
	}
	for n, no := range list {
		content := dst[n*PageSize : (n+1)*PageSize]
		if !bytes.Equal(content, want.page(no)) || sums[no-1] != sum(no, content) {
			t.Fatalf("page %d of the image at %d is not what was written, or not its sum", no, i.LSN)
		}
	}
}

// past goes back to any LSN, which it can as long as base files hold nothing above.
func (m *model) past(t *rapid.T) {
	lsn := history.LSN(rapid.Uint64Range(0, uint64(m.head())).Draw(t, "past"))
	p, err := m.store.Past(lsn)
	if err != nil {
		if at := max(m.store.record.at, m.store.record.reach); !errors.Is(err, ErrCheckpointed) || at <= lsn {
			t.Fatalf("base files hold %d, and going back to %d fails: %v", at, lsn, err)
		}
		return
	}
	defer p.Close()
	for at := p.From() + 1; at <= m.head(); at++ { // those above do no harm
		e := m.entries[at]
		if err := p.Redo(&e); err != nil {
			t.Fatal(err)
		}
	}
	want := m.images[lsn]
	if got := p.Size(modelDB); got != want.pages {
		t.Fatalf("at %d it had %d pages, want %d", lsn, got, want.pages)
	}
	page := make([]byte, PageSize)
	for no := PageNo(1); uint32(no) <= want.pages; no++ {
		if err := p.Read(modelDB, uint32(no), page); err != nil || !bytes.Equal(page, want.page(no)) {
			t.Fatalf("page %d as of %d, with %d visible and base files at %d, is another: %v", no, lsn, m.visible, m.store.CheckpointLSN(), err)
		}
	}
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

// checkSums compares the sums that a start has with the pages of the base file that anybody can come to read.
func (m *model) checkSums(t *rapid.T) {
	for _, db := range m.store.All() {
		page := make([]byte, PageSize)
		for no := PageNo(1); uint32(no) <= db.base0.Pages; no++ {
			if v, inBase := db.find(no, db.floor); v != nil || !inBase {
				continue
			}
			if _, err := db.base.ReadAt(page, int64(no-1)*PageSize); err != nil {
				t.Fatal(err)
			}
			if db.sums[no-1] != sum(no, page) {
				t.Fatalf("the sum of page %d is not that of the base file", no)
			}
		}
	}
}

// failCheckpoint has the disk fail between the base files and the checkpoint file.
func (m *model) failCheckpoint(t *rapid.T) {
	p := m.store.plan(m.visible)
	if _, _, err := m.store.writeAll(p); err != nil {
		t.Fatal(err)
	}
	for _, db := range p.write {
		db.abandon()
	}
}

// tearCheckpoint has the node end within a checkpoint: of each sector that it wrote, and each sum, the disk has
// either what was there before or what was written.
func (m *model) tearCheckpoint(t *rapid.T) {
	names := []string{m.db.base.Name(), m.db.sumsPath}
	var before [][]byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		before = append(before, b)
	}
	m.failCheckpoint(t)
	if err := m.store.Close(); err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		after, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if len(after) == 0 {
			continue
		}
		mix, sector := bytes.Clone(after), []int{512, 8}[i]
		for at := 0; at < len(mix); at += sector {
			end := min(at+sector, len(mix))
			old := make([]byte, end-at)
			copy(old, before[i][min(at, len(before[i])):])
			if !bytes.Equal(old, mix[at:end]) && rapid.Bool().Draw(t, "lost") {
				copy(mix[at:end], old)
			}
		}
		if err := os.WriteFile(name, mix, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.readers = nil
	m.open(t)
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
	below = min(below, m.db.standsAt(below))
	oldest := below
	for _, r := range m.readers {
		if r.ended == nil {
			oldest = min(oldest, r.State().LSN)
		}
	}
	if killed := m.db.KillOldest(below); killed != (oldest < below) {
		t.Fatalf("kill below %d: %v, but the oldest snapshot is at %d", below, killed, oldest)
	}
	for _, r := range m.readers {
		if r.ended == nil && oldest < below && r.State().LSN == oldest {
			r.ended = ErrSnapshotTooOld
		}
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
			if !errors.Is(err, r.ended) {
				t.Fatalf("page %d at %d, want error %v: %v", no, at, r.ended, err)
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
			"tearCheckpoint": m.tearCheckpoint,
			"openReader":     m.openReader,
			"closeReader":    m.closeReader,
			"killOldest":     m.killOldest,
			"reopen":         m.reopen,
			"cutBack":        m.cutBack,
			"pin":            m.pin,
			"past":           m.past,
			"rot":            m.rot,
			"":               m.check,
		})
		m.finish(t)
		m.readers = nil
		m.reopen(t)
		m.check(t)
	})
}
