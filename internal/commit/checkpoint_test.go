package commit_test

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"skein/internal/commit"
	"skein/internal/history"
)

func TestACheckpointWritesNothingThatIsNotCommitted(t *testing.T) {
	dir := t.TempDir()
	l := lead(t, dir, "", commit.SyncConfig{Level: commit.On})
	w := l.conn()
	l.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY)")
	l.rule("f", commit.SyncConfig{Level: commit.On})
	l.put(w, "INSERT INTO t VALUES (1)")
	if err := l.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if at, visible := l.Store().CheckpointLSN(), l.Visible(); at > visible || visible >= l.Log().Received() {
		t.Errorf("the checkpoint stands at %d, readers at %d of %d", at, visible, l.Log().Received())
	}
	closeAll(w)
	l.stop(true)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The power goes while a checkpoint writes, and what readers had seen is not on the disk: base files hold entries above
// both the checkpoint before and the hint.
func TestStore_B03_APowerCutWithinACheckpointBehindAnOlderHint(t *testing.T) {
	dir := t.TempDir()
	r := mustOpen(t, dir)
	w := r.conn()
	r.write(w, "CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
	if err := r.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	hint := filepath.Join("log", "committed")
	record, older := filepath.Join("db", "checkpoint"), read(t, filepath.Join(dir, hint))
	for range 3 {
		r.write(w, "INSERT INTO t (b) VALUES (randomblob(6000))")
	}
	torn := crash(t, dir)
	reach := r.Log().Received()
	if err := r.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	bases, err := filepath.Glob(filepath.Join(dir, "db", "*.db"))
	if err != nil || len(bases) == 0 {
		t.Fatal(bases, err)
	}
	for _, base := range bases {
		write(t, filepath.Join(torn, "db", filepath.Base(base)), read(t, base))
	}
	b := read(t, filepath.Join(torn, record))
	binary.LittleEndian.PutUint64(b[24:], uint64(reach)) // as a checkpoint notes before it writes
	binary.LittleEndian.PutUint32(b[len(b)-4:], crc32.ChecksumIEEE(b[:len(b)-4]))
	write(t, filepath.Join(torn, record), b)
	write(t, filepath.Join(torn, hint), older)
	closeAll(w)
	r.stop(true)

	r, err = bare(t, torn, testOptions)
	if err != nil {
		t.Fatal(err)
	}
	if r.Visible() != reach || r.Store().CheckpointLSN() == history.LSN(0) {
		t.Errorf("readers stand at %d, want %d", r.Visible(), reach)
	}
	c := r.conn()
	if got := c.query("SELECT count(*), sum(length(b)) FROM t"); got != "3 18000 " {
		t.Error(got)
	}
	closeAll(c)
	r.stop(true)
}
