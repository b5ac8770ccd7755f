package crashtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/nodetest"
)

const diskFull = "53100"

// A disk of 40 MB is filled to the last byte: by the log or, where that compresses, by the database. Writes
// are refused and leave nothing, reads go on, and when there is room again writes do too, without a restart.
func TestNode_D01_DiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts a small file system: needs root")
	}
	for name, piece := range map[string]func(*rand.Rand) string{
		"log":      func(rng *rand.Rand) string { return fmt.Sprintf("%016x", rng.Uint64()) },
		"database": func(*rand.Rand) string { return "0123456789abcdef" },
	} {
		t.Run(name, func(t *testing.T) { fillDisk(t, piece) })
	}
}

func fillDisk(t *testing.T, piece func(*rand.Rand) string) {
	t.Helper()
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
	n := nodetest.MustStart(t, data)
	l := nodetest.NewLedger(seed(t))
	l.Prepare(t, n)
	conn := nodetest.Connect(t, n, "skein")

	pad := ""
	for len(pad) < 200_000 {
		pad += piece(l.Rand)
	}
	insert := func(size int) error {
		id := l.Number()
		_, err := conn.PgConn().Exec(t.Context(), fmt.Sprintf("INSERT INTO ids VALUES (%d, '%s')", id, pad[:size])).ReadAll()
		l.Inserted(id, err)
		return err
	}
	inserted, failures, bytes := 0, 0, 0
	for failures < 30 {
		size := 200_000 / (1 + 20*failures) // ever smaller ones still find room
		err := insert(size)
		e, ok := errors.AsType[*pgconn.PgError](err)
		switch {
		case err == nil:
			inserted, bytes = inserted+1, bytes+size
		case ok && e.Code == diskFull:
			failures++
		default:
			t.Fatalf("a write on a full disk: %v, want SQLSTATE %s\n%s", err, diskFull, n.Log())
		}
		if bytes > 60<<20 {
			t.Fatal("the memory fills in place of the disk")
		}
	}
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows, then %d refused; %d bytes free", inserted, failures, stat.Bavail*uint64(stat.Bsize))
	l.Check(t, n)

	n.Kill() // recovery must not need the room either
	n = nodetest.MustStart(t, data)
	l.Check(t, n)
	conn = nodetest.Connect(t, n, "skein")

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := insert(200_000); err != nil {
			t.Fatalf("a write with room again: %v\n%s", err, n.Log())
		}
	}
	l.Check(t, n)
	n.Kill()
	n = nodetest.MustStart(t, data)
	l.Check(t, n)
	n.Stop(t)
	n = nodetest.MustStart(t, data)
	l.Check(t, n)
	n.Stop(t)
}
