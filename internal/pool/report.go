package pool

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"skein/internal/history"
)

// maxMessage bounds a question and an answer.
const maxMessage = 1 << 20

// Report is what a node says of itself and of its cluster.
type Report struct {
	ID       string        `json:"id"`
	Name     string        `json:"name"`
	Serves   bool          `json:"serves"`   // it has data that can be read
	Leads    bool          `json:"leads"`    // it takes writes
	Epoch    history.Epoch `json:"epoch"`    // of the leadership that it knows of
	Leader   string        `json:"leader"`   // the leader's peer address, as far as it knows; "" is nobody
	Visible  history.LSN   `json:"visible"`  // to its readers
	Lag      time.Duration `json:"lag_ns"`   // everything that was acknowledged so long ago is visible there; negative: not known
	Sessions int           `json:"sessions"` // of clients and of routers that it has
	Open     bool          `json:"open"`     // no role has a password
	Members  []Member      `json:"members"`  // none where the leader is set by configuration
}

// Member is a node that a Report names.
type Member struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Address string `json:"address"` // of its peer port
	Witness bool   `json:"witness,omitempty"`
	Hidden  bool   `json:"hidden,omitempty"` // no reads are sent there
	Delayed bool   `json:"delayed,omitempty"`
}

// Credentials are what a client's password is checked with.
type Credentials struct {
	Verifier string `json:"verifier"`
	Known    bool   `json:"known"` // the role has a Verifier, and may log in
	Mock     []byte `json:"mock"`  // pgwire.Handler's MockSecret
}

// question is one line; its answer is one, too.
type question struct {
	Role *string `json:"role,omitempty"` // for its Credentials; nil is for the Report
}

// Source answers questions.
type Source interface {
	RouterReport() Report
	RouterCredentials(role string) Credentials
}

// Answer answers a router's questions until the connection or ctx ends.
func Answer(ctx context.Context, conn net.Conn, s Source) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	in := lines(conn)
	for {
		var q question
		if err := read(in, &q); err != nil {
			return err
		}
		var a any
		if q.Role != nil {
			a = s.RouterCredentials(*q.Role)
		} else {
			a = s.RouterReport()
		}
		if err := write(conn, a); err != nil {
			return err
		}
	}
}

func lines(conn net.Conn) *bufio.Scanner {
	in := bufio.NewScanner(conn)
	in.Buffer(nil, maxMessage)
	return in
}

func read(in *bufio.Scanner, into any) error {
	if !in.Scan() {
		if err := in.Err(); err != nil {
			return err
		}
		return net.ErrClosed
	}
	if err := json.Unmarshal(in.Bytes(), into); err != nil {
		return fmt.Errorf("read a router's message: %w", err)
	}
	return nil
}

func write(conn net.Conn, message any) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	_, err = conn.Write(append(b, '\n'))
	return err
}
