// Package clients_test drives Skein with the programs and drivers that people use against
// PostgreSQL, each as its own process or library, over a real connection. Nothing here looks inside
// the server: the same tests pass against PostgreSQL 15 itself, which is how they are checked:
//
//	SKEIN_CLIENTS_URL=postgres://user@127.0.0.1:5432/empty_database go test ./clients
//
// Tests whose program is not installed are skipped and say so. The clients of other languages are
// in the folders beside this file; the script `run` starts them.
package clients_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Set by TestMain: the URL that the tests use, and the program for those that need a node of their
// own; binary is "" when the server is somebody else's.
var server, binary string

func TestMain(m *testing.M) {
	code, err := withServer(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// withServer builds skein and runs the tests against one node of it, or against SKEIN_CLIENTS_URL.
func withServer(tests func() int) (code int, err error) {
	if server = os.Getenv("SKEIN_CLIENTS_URL"); server != "" {
		return tests(), nil
	}
	dir, err := os.MkdirTemp("", "skein-clients-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()

	binary = filepath.Join(dir, "skein")
	if output, err := exec.Command("go", "build", "-o", binary, "skein/cmd/skein").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w\n%s", err, output)
	}
	n, err := startNode(filepath.Join(dir, "node"))
	if err != nil {
		return 1, err
	}
	server = n.url
	code = tests()
	stopCluster()
	if err := n.end(syscall.SIGTERM); err != nil {
		return 1, err
	}
	return code, nil
}

// program skips the test where the program is missing.
func program(t *testing.T, name string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts other programs")
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed (Debian: postgresql-client-15, for pgbench postgresql-15)", name)
	}
	return path
}

// run runs a program and gives what it printed; anything but success fails the test.
func run(t *testing.T, stdin, name string, args ...string) (stdout string) {
	t.Helper()
	var out, errOut strings.Builder
	command := exec.CommandContext(t.Context(), name, args...)
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(stdin), &out, &errOut
	command.Env = append(os.Environ(), "PSQLRC=/dev/null", "PAGER=", "LC_ALL=C.UTF-8")
	if err := command.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s\n%s", filepath.Base(name), strings.Join(args, " "), err, out.String(), errOut.String())
	}
	t.Logf("%s %s\n%s%s", filepath.Base(name), strings.Join(args, " "), out.String(), errOut.String())
	if strings.Contains(errOut.String(), "ERROR") {
		t.Errorf("errors:\n%s", errOut.String())
	}
	return out.String()
}

// value runs statements and gives the first column of the first row of the last one.
func value(t *testing.T, sql string) string {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	results, err := conn.Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	last := results[len(results)-1]
	if len(last.Rows) == 0 {
		t.Fatalf("%s: no row", sql)
	}
	return string(last.Rows[0][0])
}
