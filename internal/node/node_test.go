package node

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// testNode is a node that runs until the test ends or stop is called.
func testNode(t *testing.T, dir string) (string, func()) {
	t.Helper()
	m := runMember(t, dir, "", "")
	return m.dsn, m.stop
}

func query(t *testing.T, conn, sql string) string {
	t.Helper()
	c, err := pgx.Connect(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	var got string
	if err := c.QueryRow(t.Context(), sql).Scan(&got); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

func TestANodeGoesOnWithItsDirectory(t *testing.T) {
	dir := t.TempDir()
	conn, stop := testNode(t, dir)
	query(t, conn, "CREATE TABLE t (a text)")
	query(t, conn, "INSERT INTO t VALUES ('goose')")
	stop()
	conn, _ = testNode(t, dir)
	if got := query(t, conn, "SELECT a FROM t"); got != "goose" {
		t.Fatalf("after a restart: %q", got)
	}
}

func TestNode_H07_TwoProcessesOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	testNode(t, dir)
	if _, err := Open(Options{Dir: dir, PGAddr: "127.0.0.1:0"}); !errors.Is(err, errInUse) {
		t.Fatalf("error %v, want %v", err, errInUse)
	}
}

func TestADirectoryOfANewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	_, stop := testNode(t, dir)
	stop()
	path := filepath.Join(dir, identityFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), `"format_version": 1`, `"format_version": 2`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir, PGAddr: "127.0.0.1:0"}); !errors.Is(err, errNewer) {
		t.Fatalf("error %v, want %v", err, errNewer)
	}
}

func TestADirectoryThatLostItsIdentityIsNotTakenForANewOne(t *testing.T) {
	dir := t.TempDir()
	_, stop := testNode(t, dir)
	stop()
	if err := os.Remove(filepath.Join(dir, identityFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir, PGAddr: "127.0.0.1:0"}); err == nil || !strings.Contains(err.Error(), identityFile) {
		t.Fatalf("error %v, want one that names %s", err, identityFile)
	}
}

func TestADirectoryWithADamagedFileIsRefusedWithItsName(t *testing.T) {
	for _, file := range []string{"db/0002.db", "db/checkpoint", "log/clean", identityFile} {
		dir := t.TempDir()
		conn, stop := testNode(t, dir)
		query(t, conn, "CREATE TABLE t (a text)")
		stop()
		path := filepath.Join(dir, file)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 0x80
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := Open(Options{Dir: dir, PGAddr: "127.0.0.1:0"}); err == nil || !strings.Contains(err.Error(), filepath.Base(file)) {
			t.Errorf("a flipped bit in %s: node %v, error %v; want an error that names the file", file, n != nil, err)
		}
	}
}

func TestANodeWithoutPasswordsListensOnLoopbackOnly(t *testing.T) {
	dir := t.TempDir()
	open := func() error {
		n, err := Open(Options{Dir: dir, PGAddr: "0.0.0.0:0"})
		if err == nil {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return n.Run(ctx)
		}
		return err
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "no role has a password") {
		t.Fatalf("error %v, want a refusal", err)
	}
	conn, stop := testNode(t, dir)
	query(t, conn, "CREATE ROLE gander LOGIN PASSWORD 'honk'")
	stop()
	if err := open(); err != nil {
		t.Fatalf("with a password: %v", err)
	}
}

func TestAPortInUseIsSaid(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	if _, err := Open(Options{Dir: dir, PGAddr: l.Addr().String()}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("error %v, want address in use", err)
	}
	testNode(t, dir) // the failed attempt has let the directory go
}
