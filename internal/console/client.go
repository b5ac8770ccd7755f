// Package console is the operator's side of the command line: it shows how a cluster stands and gives it orders. It
// talks SQL to any member that answers, and asks another one when that one dies or has lost the others.
//
// Everything is called from one goroutine, that of the subcommand.
package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/overview"
	"skein/internal/shell"
	"skein/internal/sqlstate"
)

const (
	// connectWait is how long one member may take to let us in, and answerWait how long to say how the cluster stands:
	// more than it needs to give up asking the coordinator.
	connectWait = 2 * time.Second
	answerWait  = 4 * time.Second
	// hangUpWait is how long leaving may take.
	hangUpWait = 100 * time.Millisecond
)

// ErrProblem ends a command that has shown what is wrong, and ErrUnknown one that could not find out.
var (
	ErrProblem = errors.New("something is wrong with the cluster")
	ErrUnknown = errors.New("how the cluster stands is not known")
)

// errNotAppointed is of a node whose leader is set by configuration.
var errNotAppointed = errors.New("its leader is set by configuration")

// client is a connection to whichever member answers.
type client struct {
	given   *pgconn.Config // with every host that was named
	members []string       // addresses of those that we have heard of
	conn    *pgconn.PgConn // nil: none
	at      string         // address of conn
}

func newClient(connString string) (*client, error) {
	config, err := shell.ParseConfig(connString)
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = connectWait
	config.ValidateConnect = nil // whoever is there can tell, be it that nobody leads
	config.RuntimeParams["application_name"] = "skein"
	return &client{given: config}, nil
}

func (c *client) close() {
	if c.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), hangUpWait)
	defer cancel()
	_ = c.conn.Close(ctx)
	c.conn = nil
}

// addresses are those to try, each once: named ones first.
func (c *client) addresses() []string {
	all := []string{net.JoinHostPort(c.given.Host, strconv.Itoa(int(c.given.Port)))}
	for _, f := range c.given.Fallbacks {
		all = append(all, net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))))
	}
	all = append(all, c.members...)
	var once []string
	for _, a := range all {
		if !slices.Contains(once, a) {
			once = append(once, a)
		}
	}
	return once
}

// toward is how to connect to one address: as to the one that was named first, be it with TLS, without, or trying both.
func (c *client) toward(address string) (*pgconn.Config, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	config := c.given.Copy()
	var ways []*pgconn.FallbackConfig
	for _, f := range config.Fallbacks {
		if f.Host == config.Host && f.Port == config.Port {
			ways = append(ways, f)
		}
	}
	for _, f := range ways {
		if f.TLSConfig != nil {
			f.TLSConfig.ServerName = host
		}
		f.Host, f.Port = host, uint16(port)
	}
	if config.TLSConfig != nil {
		config.TLSConfig.ServerName = host
	}
	config.Host, config.Port, config.Fallbacks = host, uint16(port), ways
	return config, nil
}

// connectTo replaces the connection.
func (c *client) connectTo(ctx context.Context, address string) error {
	config, err := c.toward(address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	c.close()
	c.conn, c.at = conn, address
	return nil
}

// connect takes the first member that lets us in.
func (c *client) connect(ctx context.Context) error {
	if c.conn != nil && !c.conn.IsClosed() {
		return nil
	}
	var all []error
	for _, address := range c.addresses() {
		err := c.connectTo(ctx, address)
		if err == nil {
			return nil
		}
		all = append(all, fmt.Errorf("%s: %w", address, short(err)))
		if ctx.Err() != nil {
			break
		}
	}
	return &unanswered{all}
}

// short leaves out what pgconn repeats of its configuration.
func short(err error) error {
	var answer *pgconn.PgError
	var network *net.OpError
	switch {
	case errors.As(err, &answer):
		return errors.New(answer.Message)
	case errors.As(err, &network):
		return network.Err
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("does not answer")
	}
	return err
}

// query runs one statement on the member that we are connected to.
func (c *client) query(ctx context.Context, wait time.Duration, sql string, args ...string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var values [][]byte
	for _, a := range args {
		values = append(values, []byte(a))
	}
	result := c.conn.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	if result.Err != nil {
		return nil, result.Err
	}
	rows := make([][]string, len(result.Rows))
	for i, row := range result.Rows {
		for _, v := range row {
			rows[i] = append(rows[i], string(v))
		}
	}
	return rows, nil
}

// overview asks how the cluster stands: the member that we are connected to, another if that one does not answer,
// and the others too if it has lost the coordinator.
func (c *client) overview(ctx context.Context) (overview.Overview, error) {
	if err := c.connect(ctx); err != nil {
		return overview.Overview{}, err
	}
	o, err := c.ask(ctx)
	if err != nil && !refusedBySQL(err) && ctx.Err() == nil { // it has died since
		c.close()
		if err = c.connect(ctx); err == nil {
			o, err = c.ask(ctx)
		}
	}
	if err != nil || o.Blind == "" {
		return o, err
	}
	return c.better(ctx, o), nil
}

// better looks for a member that has not lost the coordinator; or at least knows a newer state.
func (c *client) better(ctx context.Context, o overview.Overview) overview.Overview {
	asked := c.at
	for _, address := range c.addresses() {
		if address == asked || ctx.Err() != nil || c.connectTo(ctx, address) != nil {
			continue
		}
		switch other, err := c.ask(ctx); {
		case err != nil:
		case other.Blind == "":
			return other
		case other.Version > o.Version:
			o = other
		}
	}
	return o
}

func (c *client) ask(ctx context.Context) (overview.Overview, error) {
	rows, err := c.query(ctx, answerWait, "SELECT skein_overview()")
	if err != nil {
		var e *pgconn.PgError
		switch {
		case !errors.As(err, &e):
		case e.Code == string(sqlstate.NotInRequiredState):
			return c.byHand(ctx)
		case e.Code == string(sqlstate.UndefinedFunction):
			err = errNotSkein
		}
		return overview.Overview{}, err
	}
	var o overview.Overview
	if len(rows) != 1 || len(rows[0]) != 1 {
		return o, errNotSkein
	}
	if err := json.Unmarshal([]byte(rows[0][0]), &o); err != nil {
		return o, fmt.Errorf("%w: %w", errNotSkein, err)
	}
	for _, m := range o.Members {
		if m.Address != "" && !slices.Contains(c.members, m.Address) {
			c.members = append(c.members, m.Address)
		}
	}
	return o, nil
}

var errNotSkein = errors.New("the server does not answer as a node of Skein does")

// refusedBySQL tells an error that is a node's answer from that of a connection that broke or a node that ends.
func refusedBySQL(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code[:2] != "57"
}

// unanswered is why no node could be asked, one reason for each address.
type unanswered struct{ reasons []error }

func (u *unanswered) Error() string {
	text := "no node answers"
	for _, r := range u.reasons {
		text += "\n  " + r.Error()
	}
	return text
}

func (u *unanswered) Unwrap() []error { return u.reasons }
