// Package shell is the small SQL shell of `skein sql`, for machines without psql. It speaks only the
// wire protocol, with the simple Query message, so it works with any server that PostgreSQL's own
// psql works with, and knows nothing of Skein's insides. Verify, for `skein verify`, is one query that only a node
// of Skein answers.
//
// A Shell belongs to the goroutine that calls Run. Ctrl-C while a statement runs cancels the
// statement; at the prompt it ends the program, as for any other.
package shell

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

const (
	// cancelWait is how long a cancelled statement may take to end before its connection is given up.
	cancelWait = 10 * time.Second
	// reconnectWait is how long an interactive shell tries to reach a server that went away.
	reconnectWait = 10 * time.Second
	reconnectPace = 100 * time.Millisecond
)

// ErrFailed says that a statement failed and that its error has been shown already.
var ErrFailed = errors.New("a statement failed")

// errQuit ends the loop at \q.
var errQuit = errors.New("quit")

// Options says where to connect and where statements come from.
type Options struct {
	ConnString  string   // URL or key=value text as libpq's; what it leaves out comes from PGHOST & co
	Commands    []string // run these in order instead of reading In
	Interactive bool     // print prompts and reconnect when the connection is lost
	In          io.Reader
	Out         io.Writer // results
	Err         io.Writer // errors and notices
}

// Shell is one connection with a statement being typed.
type Shell struct {
	options Options
	config  *pgconn.Config
	conn    *pgconn.PgConn
	in      *bufio.Reader
	typed   splitter
	timing  bool
	failed  bool
}

// Run reads and runs statements until the input ends, and gives ErrFailed when one of them failed.
func Run(ctx context.Context, options Options) error {
	s, err := connect(ctx, options)
	if err != nil {
		return err
	}
	defer func() { _ = s.conn.Close(ctx) }()

	if len(options.Commands) > 0 {
		err = s.runCommands(ctx)
	} else {
		err = s.readLoop(ctx)
	}
	if err == nil && s.failed {
		return ErrFailed
	}
	return err
}

// connect opens a shell. Its conn must be closed.
func connect(ctx context.Context, options Options) (*Shell, error) {
	config, err := ParseConfig(options.ConnString)
	if err != nil {
		return nil, err
	}
	s := &Shell{options: options, config: config, in: bufio.NewReader(options.In)}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { printError(options.Err, (*pgconn.PgError)(n), "") }
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: cancelWait}
	}
	if s.conn, err = pgconn.ConnectConfig(ctx, config); err != nil && options.ConnString == "" && config.ValidateConnect != nil {
		config.ValidateConnect = nil // nobody leads: a node that can only be read is better than none
		s.conn, err = pgconn.ConnectConfig(ctx, config)
	}
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("nothing listens at %s:%d; `skein demo` starts nodes, or name another one: postgres://user@host:port/database", config.Host, config.Port)
		}
		return nil, err
	}
	return s, nil
}

// runCommands is -c: each text is one Query message as it is, and the first error ends the run.
func (s *Shell) runCommands(ctx context.Context) error {
	for _, command := range s.options.Commands {
		var err error
		if strings.HasPrefix(strings.TrimSpace(command), `\`) {
			err = s.meta(ctx, strings.TrimSpace(command))
		} else {
			s.execute(ctx, command)
		}
		switch {
		case errors.Is(err, errQuit):
			return nil
		case err != nil:
			return err
		case s.failed:
			return ErrFailed
		}
	}
	return nil
}

func (s *Shell) readLoop(ctx context.Context) error {
	if s.options.Interactive {
		fmt.Fprintf(s.options.Out, "Connected to %s (server %s). Type \\? for help, \\q to leave.\n\n",
			s.address(), s.conn.ParameterStatus("server_version"))
	}
	for {
		s.prompt()
		line, err := s.in.ReadString('\n')
		if line != "" {
			if quit := s.line(ctx, line); quit != nil {
				return ignoreQuit(quit)
			}
		}
		if errors.Is(err, io.EOF) {
			return s.lastStatement(ctx)
		}
		if err != nil {
			return fmt.Errorf("read input: %w", err)
		}
	}
}

// line takes one line of input: a backslash command, or text of a statement.
func (s *Shell) line(ctx context.Context, line string) error {
	if strings.HasPrefix(strings.TrimSpace(line), `\`) && !s.typed.quoted() {
		return s.meta(ctx, strings.TrimSpace(line))
	}
	s.typed.add(line)
	for {
		statement, complete := s.typed.next()
		if !complete {
			return nil
		}
		s.execute(ctx, statement)
		if s.conn.IsClosed() {
			if err := s.reconnect(ctx); err != nil {
				return err
			}
		}
	}
}

// lastStatement runs what stands after the last semicolon when the input ends, as psql does.
func (s *Shell) lastStatement(ctx context.Context) error {
	if s.options.Interactive {
		fmt.Fprintln(s.options.Out)
		return nil
	}
	if rest := s.typed.rest(); rest != "" {
		s.execute(ctx, rest)
	}
	return nil
}

// execute runs one statement, shows what comes of it and says whether it went well. Errors are shown
// here and remembered.
func (s *Shell) execute(ctx context.Context, sql string) (ok bool) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()

	start := time.Now()
	err := s.send(ctx, sql)
	if err != nil {
		s.failed = true
		s.showError(err, sql)
	}
	if s.timing {
		fmt.Fprintf(s.options.Out, "Time: %.3f ms\n", float64(time.Since(start).Microseconds())/1000)
	}
	return err == nil
}

func (s *Shell) send(ctx context.Context, sql string) error {
	switch copyDirection(sql) {
	case copyIn:
		return s.printTag(s.conn.CopyFrom(ctx, &copyLines{in: s.in}, sql))
	case copyOut:
		return s.printTag(s.conn.CopyTo(ctx, s.options.Out, sql))
	}

	results := s.conn.Exec(ctx, sql)
	for results.NextResult() {
		if err := s.showResult(results.ResultReader()); err != nil {
			break // Close gives the same error, with what follows read
		}
	}
	return results.Close()
}

// showResult prints the rows of one statement and its command tag, as psql does.
func (s *Shell) showResult(r *pgconn.ResultReader) error {
	fields := r.FieldDescriptions()
	t := newTable(fields)
	for r.NextRow() {
		t.add(r.Values())
	}
	tag, err := r.Close()
	if err != nil {
		return err
	}
	if len(fields) > 0 {
		t.print(s.options.Out)
	}
	if len(fields) == 0 || !tag.Select() {
		return s.printTag(tag, nil)
	}
	return nil
}

func (s *Shell) printTag(tag pgconn.CommandTag, err error) error {
	if err == nil && tag.String() != "" {
		fmt.Fprintln(s.options.Out, tag)
	}
	return err
}

func (s *Shell) showError(err error, sql string) {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		printError(s.options.Err, pgErr, sql)
		return
	}
	fmt.Fprintf(s.options.Err, "ERROR:  %v\n", err)
}

// reconnect replaces a connection that the server closed. A script must not go on in a new session,
// where its transaction and settings are gone, so only a person gets one.
func (s *Shell) reconnect(ctx context.Context) error {
	if !s.options.Interactive {
		return errors.New("the connection to the server was lost")
	}
	fmt.Fprintln(s.options.Err, "The connection was lost; connecting again …")
	deadline := time.Now().Add(reconnectWait)
	for {
		conn, err := pgconn.ConnectConfig(ctx, s.config)
		if err == nil {
			s.conn = conn
			s.typed = splitter{}
			fmt.Fprintln(s.options.Err, "Connected. What was not committed is rolled back; settings of the session start anew.")
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(reconnectPace):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// prompt shows the database, whether a statement is open, and the state of the transaction.
func (s *Shell) prompt() {
	if !s.options.Interactive {
		return
	}
	open := "="
	if s.typed.rest() != "" {
		open = "-"
	}
	state := map[byte]string{'T': "*", 'E': "!"}[s.conn.TxStatus()]
	fmt.Fprintf(s.options.Out, "%s%s%s> ", s.config.Database, open, state)
}

func (s *Shell) address() string {
	return fmt.Sprintf("%s/%s as %s", s.conn.Conn().RemoteAddr(), s.config.Database, s.config.User)
}

func ignoreQuit(err error) error {
	if errors.Is(err, errQuit) {
		return nil
	}
	return err
}
