package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// fakeNode listens where it is told, lets clients in, says how it stands, and stops in order at SIGTERM.
// A leader takes for connected every follower beside it whose process lives.
func fakeNode(args []string) int {
	fmt.Println(strings.Join(args, " "))
	if complaint := os.Getenv("FAKE_NODE_COMPLAINT"); complaint != "" {
		fmt.Fprintln(os.Stderr, complaint)
		return 1
	}
	if marker := flagOf(args, "--dir") + ".died"; os.Getenv("FAKE_NODE_DIES_ONCE") != "" {
		if os.Mkdir(marker, 0o700) == nil {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	for ; isThere(heldBack(flagOf(args, "--dir"))); time.Sleep(time.Millisecond) {
		continue
	}
	listener, err := net.Listen("tcp", flagOf(args, "--pg-addr"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	f := fakeSQL{dir: flagOf(args, "--dir"), follows: flagOf(args, "--join")}
	if err := errors.Join(os.MkdirAll(f.dir, 0o700), os.WriteFile(f.dir+".pid", []byte(strconv.Itoa(os.Getpid())), 0o600)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	for {
		conn, err := listener.Accept()
		if err != nil {
			return 0
		}
		go f.letIn(conn)
	}
}

// heldBack is a file that keeps the node of a directory from serving.
func heldBack(dir string) string { return dir + ".held" }

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// flagOf gives the argument behind a flag, "" without it.
func flagOf(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// fakeSQL answers the few statements that the demo sends.
type fakeSQL struct{ dir, follows string }

func (f fakeSQL) letIn(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	backend := pgproto3.NewBackend(conn, conn)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return
	}
	backend.Send(&pgproto3.AuthenticationOk{})
	for {
		backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if backend.Flush() != nil {
			return
		}
		message, err := backend.Receive()
		if err != nil {
			return
		}
		query, ok := message.(*pgproto3.Query)
		if !ok {
			return
		}
		f.answer(backend, query.String)
	}
}

func (f fakeSQL) answer(b *pgproto3.Backend, sql string) {
	setting := filepath.Join(filepath.Dir(f.dir), "setting")
	refused := os.Getenv("FAKE_NODE_REFUSES")
	switch {
	case refused != "" && strings.HasPrefix(sql, refused):
		b.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "0A000", Message: "not today"})
	case sql == lookQuery:
		mode, sync := "asynchronous", "async"
		if _, err := os.Stat(setting); err == nil {
			mode, sync = "synchronous: ANY 1 (*)", "quorum"
		}
		role := "leader"
		if f.follows != "" {
			role = "follower"
		}
		sendRows(b, 5, []string{role, "1", mode, "", f.follows})
		sendRows(b, 9, f.followers(sync)...)
	default:
		before, _ := os.ReadFile(setting) // told twice is a mistake
		if err := os.WriteFile(setting, append(before, sql...), 0o600); err != nil {
			panic(err)
		}
		b.Send(&pgproto3.CommandComplete{CommandTag: []byte("ALTER SYSTEM")})
	}
}

func (f fakeSQL) followers(sync string) [][]string {
	if f.follows != "" {
		return nil
	}
	var list [][]string
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(f.dir), "node*.pid"))
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".pid")
		if name == filepath.Base(f.dir) {
			continue
		}
		text, _ := os.ReadFile(file)
		pid, err := strconv.Atoi(string(text))
		if err == nil && syscall.Kill(pid, 0) == nil {
			list = append(list, []string{name, "t", "streaming", sync, "", "0", "0.3", "0", "0"})
		} else {
			list = append(list, []string{name, "f", "", "", "network", "5000000", "100", "0", "0"})
		}
	}
	return list
}

func sendRows(b *pgproto3.Backend, columns int, rows ...[]string) {
	fields := make([]pgproto3.FieldDescription, columns)
	for i := range fields {
		fields[i].Name = []byte("c")
	}
	b.Send(&pgproto3.RowDescription{Fields: fields})
	for _, row := range rows {
		values := make([][]byte, len(row))
		for i, v := range row {
			values[i] = []byte(v)
		}
		b.Send(&pgproto3.DataRow{Values: values})
	}
	b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT")})
}
