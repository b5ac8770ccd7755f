package shell

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestResultsAndErrorsLookLikePsql(t *testing.T) {
	address := serve(t, map[string][]pgproto3.BackendMessage{
		"select * from goose;": {
			&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{
				{Name: []byte("id"), DataTypeOID: 23}, {Name: []byte("name"), DataTypeOID: 25},
			}},
			&pgproto3.DataRow{Values: [][]byte{[]byte("1"), []byte("Åke")}},
			&pgproto3.DataRow{Values: [][]byte{[]byte("12"), nil}},
			&pgproto3.DataRow{Values: [][]byte{[]byte("3"), []byte("two\nlines\x1b")}},
			&pgproto3.CommandComplete{CommandTag: []byte("SELECT 3")},
		},
		"insert into goose values (1);": {
			&pgproto3.NoticeResponse{Severity: "NOTICE", Message: "look out", Code: "00000"},
			&pgproto3.ErrorResponse{
				Severity: "ERROR", Code: "23505", Message: "duplicate key", Detail: "Key (id)=(1) exists.",
				Hint: "Take another.", Position: 8,
			},
		},
		"delete from goose": {&pgproto3.CommandComplete{CommandTag: []byte("DELETE 2")}},
	})

	out, errOut, err := run(t, Options{ConnString: address}, "select * from goose;\ninsert into goose values (1);\ndelete from goose")
	if !errors.Is(err, ErrFailed) {
		t.Errorf("error %v, want ErrFailed", err)
	}
	const wantOut = ` id |  name
----+--------
  1 | Åke
 12 | 
  3 | two   +
    | lines�
(3 rows)

DELETE 2
`
	const wantErr = `NOTICE:  look out
ERROR:  duplicate key
LINE 1: insert into goose values (1);
               ^
DETAIL:  Key (id)=(1) exists.
HINT:  Take another.
SQLSTATE:  23505
`
	if out != wantOut {
		t.Errorf("output\n%s\nwant\n%s", out, wantOut)
	}
	if errOut != wantErr {
		t.Errorf("errors\n%s\nwant\n%s", errOut, wantErr)
	}
}

func TestCommandsStopAtTheFirstError(t *testing.T) {
	address := serve(t, map[string][]pgproto3.BackendMessage{
		"bad": {&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42601", Message: "syntax error"}},
		"one": {&pgproto3.CommandComplete{CommandTag: []byte("ONE")}},
	})
	out, _, err := run(t, Options{ConnString: address, Commands: []string{"one", "bad", "one"}}, "")
	if !errors.Is(err, ErrFailed) || out != "ONE\n" {
		t.Errorf("error %v, output %q", err, out)
	}
}

func TestUnknownCommandAndQuit(t *testing.T) {
	address := serve(t, nil)
	out, errOut, err := run(t, Options{ConnString: address}, "\\dance\n\\q\nselect 1;\n")
	if !errors.Is(err, nil) && !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	if out != "" || !strings.Contains(errOut, `\dance`) {
		t.Errorf("output %q, errors %q", out, errOut)
	}
}

func TestConnectionLostInAScript(t *testing.T) {
	address := serve(t, nil) // hangs up at any statement that it does not know
	_, errOut, err := run(t, Options{ConnString: address}, "begin;\ninsert;\n")
	if err == nil || errors.Is(err, ErrFailed) {
		t.Errorf("error %v, want that the connection was lost", err)
	}
	if strings.Count(errOut, "ERROR") != 1 {
		t.Errorf("a script went on without its session: %q", errOut)
	}
}

func TestNoConnectionStringMeansTheDemo(t *testing.T) {
	env := map[string]string{"PGPORT": "5999"}
	t.Setenv("PGPORT", "5999")
	config, err := parseConfig("", func(key string) (string, bool) { value, ok := env[key]; return value, ok })
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "127.0.0.1" || config.Port != 5999 || config.User != "skein" || config.Database != "skein" {
		t.Errorf("%s:%d user %s database %s", config.Host, config.Port, config.User, config.Database)
	}
}

// Whichever of the demo's nodes leads is the one to type at.
func TestWithoutAnythingTheDemosLeaderIsMeant(t *testing.T) {
	config, err := parseConfig("", func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	ports := map[uint16]bool{config.Port: true}
	for _, f := range config.Fallbacks {
		ports[f.Port] = true
	}
	if config.ValidateConnect == nil || !ports[5432] || !ports[5433] || !ports[5434] || len(ports) != 3 {
		t.Errorf("ports %v, asked whether it can be written to: %t", ports, config.ValidateConnect != nil)
	}
	for _, set := range []string{"PGHOST", "PGPORT"} {
		config, err := parseConfig("", func(key string) (string, bool) { return "", key == set })
		if err != nil || config.ValidateConnect != nil {
			t.Errorf("with %s: error %v, more than one node is tried", set, err)
		}
	}
}

func TestCopyDirection(t *testing.T) {
	for sql, want := range map[string]direction{
		"copy t from stdin;":                         copyIn,
		"COPY t (a, b) FROM STDIN WITH (FORMAT csv)": copyIn,
		"copy (select 1) to stdout;":                 copyOut,
		"select 'copy t from stdin'":                 noCopy,
		"copy t from 'file'":                         noCopy,
		"":                                           noCopy,
	} {
		if got := copyDirection(sql); got != want {
			t.Errorf("%q: %d, want %d", sql, got, want)
		}
	}
}

func TestLocate(t *testing.T) {
	for _, test := range []struct {
		sql      string
		position int
		line     string
		number   int
		column   int
		ok       bool
	}{
		{"select x", 8, "select x", 1, 7, true},
		{"select\n ä, x\nfrom t", 12, " ä, x", 2, 4, true},
		{"select", 0, "", 0, 0, false},
		{"select", 99, "", 0, 0, false},
	} {
		line, number, column, ok := locate(test.sql, test.position)
		if line != test.line || number != test.number || column != test.column || ok != test.ok {
			t.Errorf("%q at %d: %q %d %d %v", test.sql, test.position, line, number, column, ok)
		}
	}
}

func run(t *testing.T, options Options, input string) (out, errOut string, err error) {
	t.Helper()
	var o, e bytes.Buffer
	options.In, options.Out, options.Err = strings.NewReader(input), &o, &e
	err = Run(t.Context(), options)
	return o.String(), e.String(), err
}

// serve answers each Query with the messages listed for it, and hangs up at any other.
func serve(t *testing.T, answers map[string][]pgproto3.BackendMessage) (connString string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = listener.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			converse(conn, answers)
			_ = conn.Close()
		}
	}()
	return "postgres://skein@" + listener.Addr().String() + "/skein?sslmode=disable"
}

func converse(conn net.Conn, answers map[string][]pgproto3.BackendMessage) {
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
		reply, known := answers[query.String]
		if !known {
			return
		}
		for _, m := range reply {
			backend.Send(m)
		}
	}
}

func TestPersonGetsANewSession(t *testing.T) {
	address := serve(t, map[string][]pgproto3.BackendMessage{
		"still there;": {&pgproto3.CommandComplete{CommandTag: []byte("YES")}},
	})
	out, errOut, err := run(t, Options{ConnString: address, Interactive: true}, "hang up;\nstill there;\n")
	if !errors.Is(err, ErrFailed) || !strings.Contains(errOut, "connecting again") || !strings.Contains(out, "YES") {
		t.Errorf("error %v, output %q, errors %q", err, out, errOut)
	}
}
