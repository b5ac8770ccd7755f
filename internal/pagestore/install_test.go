package pagestore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"skein/internal/history"
)

// copyTo installs an image in dir as replication does, and says how many pages had to travel.
func copyTo(i *Image, dir string) (sent int, err error) {
	in, err := BeginInstall(dir, false)
	if err != nil {
		return 0, err
	}
	defer func() { _ = in.Close() }()
	var differ []Run
	for _, db := range i.Databases() {
		runs, err := differing(i, in, db)
		if differ = append(differ, runs...); err != nil {
			return 0, err
		}
	}
	if err := in.Mark(differ); err != nil {
		return 0, err
	}
	page := make([]byte, PageSize)
	for _, r := range differ {
		want, err := i.Sums(r.Database, r.First, 1)
		if err != nil {
			return sent, err
		}
		if err := i.ReadPages(r.Database, []PageNo{r.First}, page); err != nil {
			return sent, err
		}
		if err := in.WriteRun(r.Database, r.First, page, want); err != nil {
			return sent, err
		}
		sent++
	}
	if err := in.Finish(i.LSN, i.Databases()); err != nil {
		return sent, err
	}
	return sent, in.Commit()
}

func differing(i *Image, in *Install, db ImageDB) (differ []Run, err error) {
	have, err := in.Sums(db.ID)
	if err != nil {
		return nil, err
	}
	want, err := i.Sums(db.ID, 1, int(db.Pages))
	if err != nil {
		return nil, err
	}
	for n, s := range want {
		if n >= len(have) && s != 0 || n < len(have) && have[n] != s {
			differ = append(differ, Run{db.ID, PageNo(n + 1), 1})
		}
	}
	return differ, nil
}

func (b *bench) pin() *Image {
	b.t.Helper()
	i, err := b.store.Pin(history.LSN(b.visible.Load()))
	if err != nil {
		b.t.Fatal(err)
	}
	return i
}

// install brings the databases of b to dir.
func (b *bench) install(dir string) int {
	b.t.Helper()
	i := b.pin()
	defer i.Close()
	sent, err := copyTo(i, dir)
	if err != nil {
		b.t.Fatal(err)
	}
	return sent
}

// wantCopy opens dir and compares its databases with those of b.
func (b *bench) wantCopy(dir string) {
	b.t.Helper()
	i := b.pin()
	defer i.Close()
	s, err := Open(dir, Options{TempDir: b.dir})
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Verify(); err != nil {
		b.t.Fatal(err)
	}
	if n := s.Reread(); n > 0 {
		b.t.Errorf("opening the copy reads %d pages", n)
	}
	if s.CheckpointLSN() != i.LSN || s.Reach() != i.LSN {
		b.t.Errorf("the copy is of entry %d, reach %d, want %d", s.CheckpointLSN(), s.Reach(), i.LSN)
	}
	if len(s.All()) != len(i.Databases()) {
		b.t.Errorf("the copy has %d databases, want %d", len(s.All()), len(i.Databases()))
	}
	want, got := make([]byte, PageSize), make([]byte, PageSize)
	for _, db := range i.Databases() {
		if head := s.DB(db.ID).Head(); head.Pages != db.Pages || head.Checksum != db.Checksum {
			b.t.Errorf("the copy of %+v is %+v", db, head)
		}
		for no := PageNo(1); uint32(no) <= db.Pages; no++ {
			err := i.ReadPages(db.ID, []PageNo{no}, want)
			if _, rerr := s.DB(db.ID).ReadHead(no, got); err != nil || rerr != nil || !bytes.Equal(got, want) {
				b.t.Errorf("page %d of database %d differs (%v, %v)", no, db.ID, err, rerr)
			}
		}
	}
}

func TestACopyIsMadeWhileTheWriterGoesOn(t *testing.T) {
	b := newBench(t)
	b.commit(b.db(2), 5, map[PageNo]byte{1: 1, 2: 2, 5: 5})
	b.commit(b.db(3), 2, map[PageNo]byte{1: 3})
	b.db(4) // without an entry
	b.checkpoint()
	b.commit(b.db(2), 5, map[PageNo]byte{2: 9})
	i := b.pin()
	b.commit(b.db(2), 3, map[PageNo]byte{1: 7})
	b.publish(b.db(3), 2, map[PageNo]byte{2: 7})
	b.checkpoint()
	b.store.Drop(3)
	b.commit(b.db(2), 4, map[PageNo]byte{4: 8})
	b.checkpoint()
	b.checkpoint()
	dir := filepath.Join(t.TempDir(), "db")
	if sent, err := copyTo(i, dir); err != nil || sent != 4 {
		t.Fatalf("%d pages were sent (%v), want 4", sent, err)
	}
	i.Close()
	b.checkpoint()
	if held := b.store.HeldBytes(); held != 0 {
		t.Errorf("%d bytes are held after the image was closed", held)
	}
	if b.store.DropPending() {
		t.Error("the dropped database is still there")
	}
	s, err := Open(dir, Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Verify(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		id    history.DatabaseID
		no    PageNo
		value byte
	}{{2, 1, 1}, {2, 2, 9}, {2, 3, 0}, {2, 5, 5}, {3, 1, 3}, {3, 2, 0}} {
		wantPage(t, s.DB(want.id).Snapshot(3), want.no, want.value)
	}
}

func TestAnOlderCopyIsBroughtUpToDateByItsDifferences(t *testing.T) {
	b := newBench(t)
	writes := map[PageNo]byte{}
	for no := PageNo(1); no <= 600; no++ {
		writes[no] = byte(no%200) + 1
	}
	b.commit(b.db(2), 600, writes)
	b.commit(b.db(3), 2, map[PageNo]byte{1: 3})
	dir := filepath.Join(t.TempDir(), "db")
	if sent := b.install(dir); sent != 601 {
		t.Errorf("%d pages were sent, want 601", sent)
	}
	b.wantCopy(dir)

	b.commit(b.db(2), 500, map[PageNo]byte{1: 9, 300: 9})
	b.store.Drop(3)
	b.checkpoint()
	b.commit(b.db(5), 3, map[PageNo]byte{3: 9})
	if err := os.WriteFile(filepath.Join(dir, "0005.db"), filled(4)[:1000], 0o600); err != nil { // torn
		t.Fatal(err)
	}
	if sent := b.install(dir); sent != 3 {
		t.Errorf("%d pages were sent, want 3", sent)
	}
	b.wantCopy(dir)
	b.commit(b.db(2), 700, map[PageNo]byte{650: 9})
	if sent := b.install(dir); sent != 1 {
		t.Errorf("%d pages were sent, want 1", sent)
	}
	b.wantCopy(dir)
}

func TestADirectoryWithAnIncompleteCopyIsNotOpened(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	in, err := BeginInstall(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if have, err := in.Sums(2); len(have) > 0 || err != nil {
		t.Fatal(have, err)
	}
	if err := in.WriteRun(2, 1, filled(1), []uint64{PageSum(1, filled(1))}); !errors.Is(err, errNotMarked) || Installing(dir) {
		t.Errorf("before the directory is marked: %v", err)
	}
	if err := in.Mark([]Run{{2, 1, 3}}); err != nil {
		t.Fatal(err)
	}
	if err := in.WriteRun(2, 1, filled(1), []uint64{PageSum(1, filled(2))}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a page with another's hash: %v, want %v", err, ErrDamaged)
	}
	if err := in.WriteRun(2, 2, append(filled(2), filled(3)...), []uint64{PageSum(2, filled(2)), PageSum(3, filled(3))}); err != nil {
		t.Fatal(err)
	}
	total := PageSum(2, filled(2)) ^ PageSum(3, filled(3))
	if err := in.Finish(4, []ImageDB{{2, 3, total + 1}}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a copy with another checksum: %v, want %v", err, ErrDamaged)
	}
	if err := in.Finish(4, []ImageDB{{2, 3, total}}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrInstalling) || !Installing(dir) {
		t.Errorf("opened before the end: %v, want %v", err, ErrInstalling)
	}
	if err := in.Commit(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, Options{})
	if err != nil || Installing(dir) {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Verify(); err != nil {
		t.Fatal(err)
	}
	wantPage(t, s.DB(2).Snapshot(4), 1, 0)
	wantPage(t, s.DB(2).Snapshot(4), 3, 3)
}

func TestAnImageEndsWhenMemoryIsShort(t *testing.T) {
	b := newBench(t)
	b.commit(b.db(2), 2, map[PageNo]byte{1: 1})
	i := b.pin()
	defer i.Close()
	b.commit(b.db(2), 2, map[PageNo]byte{1: 2})
	if !b.db(2).KillOldest(2) {
		t.Fatal("nothing was ended")
	}
	if _, err := i.Sums(2, 1, 2); !errors.Is(err, ErrSnapshotTooOld) {
		t.Errorf("sums: %v, want %v", err, ErrSnapshotTooOld)
	}
	if err := i.ReadPages(2, []PageNo{1, 2}, make([]byte, 2*PageSize)); !errors.Is(err, ErrSnapshotTooOld) {
		t.Errorf("pages: %v, want %v", err, ErrSnapshotTooOld)
	}
	if err := i.ReadPages(3, []PageNo{1}, make([]byte, PageSize)); err == nil {
		t.Error("a database that is not in the image was read")
	}
}

// installPoints are the places of package fault in an install, and about how often it passes each.
var installPoints = map[string]int{
	"file.rename": 2, "install.sums": 2, "install.begun": 1, "install.page": 6, "install.synced": 1, "install.checkpoint": 1, "install.commit": 1,
}

const installFrom, installTo = "SKEIN_TEST_INSTALL_FROM", "SKEIN_TEST_INSTALL_TO"

// TestInstallChild is what the next test runs as a process of its own.
func TestInstallChild(t *testing.T) {
	from := os.Getenv(installFrom)
	if from == "" {
		t.Skip("for TestAnInstallIsKilledAtEveryPoint")
	}
	s, err := Open(from, Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(); err != nil {
		t.Fatal(err)
	}
	i, err := s.Pin(s.CheckpointLSN())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := copyTo(i, os.Getenv(installTo)); err != nil {
		t.Fatal(err)
	}
}

// An install is killed, begun again, killed again, and so on. The directory is never opened half done,
// and in the end it is the image.
func TestAnInstallIsKilledAtEveryPoint(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a binary of its own")
	}
	binary := filepath.Join(t.TempDir(), "pagestore.test")
	if out, err := exec.Command("go", "test", "-c", "-tags", "failpoints", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	b := newBench(t)
	change := func() {
		for id := history.DatabaseID(2); id < 4; id++ {
			writes := map[PageNo]byte{}
			pages := 1 + rng.Uint32N(8)
			for range 3 {
				writes[PageNo(1+rng.Uint32N(pages))] = byte(1 + rng.IntN(250))
			}
			b.commit(b.db(id), pages, writes)
		}
		b.checkpoint()
	}
	killed := 0
	run := func(dir, faults string) {
		c := exec.Command(binary, "-test.run=^TestInstallChild$")
		c.Env = append(os.Environ(), installFrom+"="+filepath.Join(b.dir, "db"), installTo+"="+dir, "SKEIN_FAULT="+faults)
		out, err := c.CombinedOutput()
		if ee, ok := errors.AsType[*exec.ExitError](err); ok && ee.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
			killed++
		} else if err != nil {
			t.Fatalf("%s: %v\n%s", faults, err, out)
		}
	}
	passed := 0
	for _, name := range slices.Sorted(maps.Keys(installPoints)) {
		dir := filepath.Join(t.TempDir(), "db")
		for n := range installPoints[name] {
			change()
			run(dir, fmt.Sprintf("%s=kill:%d", name, n+1))
			if s, err := Open(dir, Options{TempDir: t.TempDir()}); err == nil { // the install had not begun, or was over
				if err := s.Verify(); err != nil {
					t.Fatalf("after a kill at %s: %v", name, err)
				}
				_ = s.Close()
			} else if !errors.Is(err, ErrInstalling) {
				t.Fatalf("after a kill at %s: %v", name, err)
			}
			passed++
		}
		change()
		run(dir, "")
		b.wantCopy(dir)
	}
	if killed < passed/2 {
		t.Errorf("only %d of %d faults were passed", killed, passed)
	}
	t.Logf("killed %d times in %d", killed, passed)
}

// Long runs go another way to the disk than short ones, with either before the other, beyond the end of the file and into it.
func TestRunsOfAnyLengthAreInstalled(t *testing.T) {
	const pages = 1000
	rng := rand.New(rand.NewPCG(3, 4))
	content, sums := make([]byte, pages*PageSize), make([]uint64, pages)
	for n := range sums {
		page := content[n*PageSize : (n+1)*PageSize]
		for i := range page {
			page[i] = byte(rng.Uint32())
		}
		sums[n] = sum(PageNo(n+1), page)
	}
	for _, cached := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "db")
		in, err := BeginInstall(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Sums(2); err != nil {
			t.Fatal(err)
		}
		if err := in.Mark([]Run{{2, 1, pages}}); err != nil {
			t.Fatal(err)
		}
		in.files[2].cached = cached
		lengths := []int{31, 200, 1, 32, 128, 33, 300, 2}
		write := func(first, n int) {
			t.Helper()
			if err := in.WriteRun(2, PageNo(first+1), content[first*PageSize:(first+n)*PageSize], sums[first:first+n]); err != nil {
				t.Fatal(err)
			}
		}
		write(700, 300) // the end first
		for first, i := 0, 0; first < 800; i++ {
			n := min(lengths[i%len(lengths)], pages-first)
			write(first, n)
			first += n
		}
		image := ImageDB{ID: 2, Pages: pages, Checksum: xor(sums)}
		if err := in.Finish(7, []ImageDB{image}); err != nil {
			t.Fatal(err)
		}
		if err := in.Commit(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(basePath(dir, 2))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("cached %v: the file is not what was written (%v)", cached, err)
		}
	}
}

// What a disk does not take past its cache is not taken for written.
func TestALongRunThatTheDiskRefuses(t *testing.T) {
	const pages = 3 * directRun / PageSize
	content, sums := make([]byte, pages*PageSize), make([]uint64, pages)
	for n := range sums {
		content[n*PageSize] = byte(n)
		sums[n] = sum(PageNo(n+1), content[n*PageSize:(n+1)*PageSize])
	}
	begin := func() *Install {
		t.Helper()
		in, err := BeginInstall(filepath.Join(t.TempDir(), "db"), false)
		if err == nil {
			_, err = in.Sums(2)
		}
		if err == nil {
			err = in.Mark([]Run{{2, 1, pages}})
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = in.Close() })
		return in
	}

	t.Run("without the cache", func(t *testing.T) {
		in := begin()
		in.buffer = directBuffer(4*directRun + 1)[1:] // the file system can do it, but not so
		if err := in.WriteRun(2, 1, content, sums); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(basePath(in.dir, 2)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("the file is not what was written (%v)", err)
		}
	})
	t.Run("at all", func(t *testing.T) {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip(err)
		}
		in := begin()
		if _, err := in.writable(2); err != nil {
			t.Fatal(err)
		}
		in.files[2].past = full
		if err := in.WriteRun(2, 1, content, sums); !errors.Is(err, syscall.ENOSPC) || len(in.files[2].sums) > 0 {
			t.Errorf("%d pages are taken for written: %v", len(in.files[2].sums), err)
		}
	})
}
