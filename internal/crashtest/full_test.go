package crashtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

const diskFull = "53100"

// A disk of 40 MB is filled to the last byte. Writes are refused and leave nothing, reads go on, and
// when there is room again writes do too, without a restart.
func TestNode_D01_DiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts a small file system: needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=40m"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 12<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	n := mustStart(t, data)
	l := newLedger(seed(t))
	l.prepare(t, n)
	conn := connect(t, n, "skein")

	pad := ""
	for len(pad) < 200_000 { // every other disk page of it compresses, so that log and database differ in size
		pad += fmt.Sprintf("%016x", l.rng.Uint64())
		if len(pad)%8192 == 0 {
			pad += strings.Repeat("x", 16<<10)
		}
	}
	insert := func(size int) error {
		id := l.number()
		_, err := conn.PgConn().Exec(t.Context(), fmt.Sprintf("INSERT INTO ids VALUES (%d, '%s')", id, pad[:size])).ReadAll()
		note(l, l.ids, id, err)
		return err
	}
	inserted, failures := 0, 0
	for failures < 30 {
		err := insert(200_000 / (1 + 20*failures)) // ever smaller ones still find room
		e, ok := errors.AsType[*pgconn.PgError](err)
		switch {
		case err == nil:
			inserted++
		case ok && e.Code == diskFull:
			failures++
		default:
			t.Fatalf("a write on a full disk: %v, want SQLSTATE %s\n%s", err, diskFull, n.log.String())
		}
		if inserted > 5000 {
			t.Fatal("the disk does not fill")
		}
	}
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows, then %d refused; %d bytes free", inserted, failures, stat.Bavail*uint64(stat.Bsize))
	l.check(t, n)

	n.kill() // recovery must not need the room either
	n = mustStart(t, data)
	l.check(t, n)
	conn = connect(t, n, "skein")

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := insert(200_000); err != nil {
			t.Fatalf("a write with room again: %v\n%s", err, n.log.String())
		}
	}
	l.check(t, n)
	n.kill()
	n = mustStart(t, data)
	l.check(t, n)
	n.stop(t)
	n = mustStart(t, data)
	l.check(t, n)
	n.stop(t)
}
