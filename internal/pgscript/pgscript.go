// Package pgscript plays conversations in PostgreSQL's protocol, message by message, with whatever serves it, and compares what
// is answered with what a file expects. Only tests import it.
//
// Its nouns: a Script is a file being played, a client is one of its connections. The lines of a file:
//
//	# …                       a comment
//	NAME> SQL                 sends a Query and reads up to ReadyForQuery (or CopyInResponse);
//	                          a line that ends in \ goes on in the next
//	NAME& SQL                 sends a Query and reads nothing
//	NAME< [close|error]       reads what a client was asked before; or up to the connection's end;
//	                          or leaves out what came before an error, where chance has a say in it
//	NAME: MESSAGE | …         messages of the extended protocol and of COPY; reads all their answers
//	NAME; MESSAGE | …         the same, and reads nothing
//	connect NAME [k=v …]      opens a connection with these startup parameters; "at=PLACE" says where, if there are several
//	                          places; it is done without for the rest
//	cancel NAME               sends a CancelRequest, and more of them until what NAME was asked is answered
//	drop NAME                 closes the connection
//
// and those that Options adds. What is read is compared with the indented lines below.
package pgscript

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// patience is how long an answer may take. None takes this long.
	patience      = time.Minute
	cancelPace    = 5 * time.Millisecond
	cancelRequest = 80877102
)

// Options of Play. Only Address is required.
type Options struct {
	// Address is where to connect; place is what the script calls it, "" where it does not care.
	Address func(place string) string

	// Parameters of every startup, unless the script has others; user and database among them.
	Parameters map[string]string

	// Commands are more lines, by their first word. They may not take the name of a client.
	Commands map[string]func(s *Script, words []string)

	// Hide leaves a line of an answer out.
	Hide func(line string) bool

	// Blur gives a line of an answer without what chance has a say in.
	Blur func(line string) string

	// Update writes the file anew with what was answered.
	Update bool
}

// Script is a file being played.
type Script struct {
	T *testing.T
	Options

	clients       map[string]*client
	out           bytes.Buffer
	where         string
	got, expected []string
	ended         bool
}

// client is one connection as its owner sees it.
type client struct {
	net      net.Conn
	place    string
	frontend *pgproto3.Frontend
	key      []byte // body of a CancelRequest
	cancels  func() // ends those that are under way; nil: none are
}

// Play plays a file.
func Play(t *testing.T, file string, o Options) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &Script{T: t, Options: o, clients: map[string]*client{}}
	defer s.dropAll()
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; !s.ended && lines.Scan(); n++ {
		line := lines.Text()
		if expected, ok := strings.CutPrefix(line, "  "); ok {
			s.expected = append(s.expected, expected)
			continue
		}
		s.compare()
		s.where = fmt.Sprintf("%s:%d", file, n)
		fmt.Fprintln(&s.out, line)
		for strings.HasSuffix(line, `\`) && lines.Scan() {
			n++
			fmt.Fprintln(&s.out, lines.Text())
			line = strings.TrimSuffix(line, `\`) + "\n" + lines.Text()
		}
		s.line(line)
	}
	s.compare()
	if s.Update && !s.ended && !t.Failed() {
		if err := os.WriteFile(file, s.out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// End leaves out the rest of the file.
func (s *Script) End() { s.ended = true }

// Where is the line that is being played, for messages.
func (s *Script) Where() string { return s.where }

// Say adds to what the present line is answered with.
func (s *Script) Say(lines ...string) { s.got = append(s.got, lines...) }

// compare checks what was read against what the script expects.
func (s *Script) compare() {
	hidden := func(l string) bool { return s.Hide != nil && s.Hide(l) }
	s.got, s.expected = slices.DeleteFunc(s.got, hidden), slices.DeleteFunc(s.expected, hidden)
	for i, g := range s.got {
		if s.Blur != nil {
			s.got[i] = s.Blur(g)
		}
		fmt.Fprintln(&s.out, " ", s.got[i])
	}
	if got, want := strings.Join(s.got, "\n"), strings.Join(s.expected, "\n"); got != want && !s.Update {
		s.T.Errorf("%s: got\n%s\nwant\n%s", s.where, got, want)
	}
	s.got, s.expected = nil, nil
}

func (s *Script) line(line string) {
	if line == "" || line[0] == '#' {
		return
	}
	words := strings.Fields(line)
	switch words[0] {
	case "connect":
		s.connect(words[1], words[2:])
		return
	case "cancel":
		s.client(words[1]).cancel(s.Address)
		return
	case "drop":
		s.Drop(words[1])
		return
	}
	if command := s.Commands[words[0]]; command != nil {
		command(s, words[1:])
		return
	}
	name, rest, _ := strings.Cut(line, " ")
	s.talk(s.client(name[:len(name)-1]), name[len(name)-1], rest)
}

func (s *Script) talk(c *client, verb byte, rest string) {
	switch verb {
	case '>':
		c.send(&pgproto3.Query{String: rest})
		s.read(c, "ReadyForQuery", "CopyInResponse")
	case '&':
		c.send(&pgproto3.Query{String: rest})
	case '<':
		if rest == "close" {
			s.read(c, "close")
			return
		}
		s.read(c, "ReadyForQuery", "CopyInResponse")
		if rest == "error" {
			first := slices.IndexFunc(s.got, func(l string) bool { return strings.HasPrefix(l, "ERROR") })
			s.got = s.got[max(first, 0):]
		}
	case ':':
		s.answers(c, s.messages(c, splitWords(rest)))
	case ';':
		s.messages(c, splitWords(rest))
	default:
		s.T.Fatalf("%s: what is %q?", s.where, verb)
	}
}

// client gives the connection of this name, opening it when it is new.
func (s *Script) client(name string) *client {
	if s.clients[name] == nil {
		before := s.got
		s.connect(name, nil)
		s.got = before
	}
	return s.clients[name]
}

func (s *Script) connect(name string, params []string) {
	m := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{}}
	for k, v := range s.Parameters {
		m.Parameters[k] = v
	}
	c := &client{}
	for _, p := range params {
		k, v, _ := strings.Cut(p, "=")
		if v = strings.ReplaceAll(v, "+", " "); k == "at" {
			c.place = v
			continue
		}
		m.Parameters[k] = v
	}
	nc, err := net.Dial("tcp", s.Address(c.place))
	if err != nil {
		s.T.Fatalf("%s: %v", s.where, err)
	}
	_ = nc.SetDeadline(time.Now().Add(patience))
	c.net, c.frontend = nc, pgproto3.NewFrontend(nc, nc)
	s.clients[name] = c
	c.send(m)
	s.read(c, "ReadyForQuery")
	s.got = slices.DeleteFunc(s.got, ofStartup)
}

// ofStartup says which messages of a startup are not worth reading.
func ofStartup(line string) bool {
	return strings.HasPrefix(line, "ParameterStatus") || strings.HasPrefix(line, "Authentication") || line == "BackendKeyData"
}

func (c *client) send(m pgproto3.FrontendMessage) {
	raw, _ := m.Encode(nil)
	_, _ = c.net.Write(raw) // what goes wrong shows when the answer is read
}

// read reads up to a message of one of these types, or to the connection's end, and gives the last type.
func (s *Script) read(c *client, until ...string) string {
	_ = c.net.SetDeadline(time.Now().Add(patience))
	for {
		m, err := c.frontend.Receive()
		if c.cancels != nil {
			c.cancels()
			c.cancels = nil
		}
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				s.T.Fatalf("%s: no answer; so far: %q", s.where, s.got)
			}
			s.got = append(s.got, "close")
			return "close"
		}
		name := strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.")
		if k, ok := m.(*pgproto3.BackendKeyData); ok {
			c.key = append(binary.BigEndian.AppendUint32(nil, k.ProcessID), k.SecretKey...)
		}
		s.got = append(s.got, strings.Split(describe(name, m), "\n")...)
		if slices.Contains(until, name) {
			return name
		}
	}
}

// cancel asks for it, and again and again, for it may come before the statement, until something is answered.
func (c *client) cancel(address func(string) string) {
	raw := binary.BigEndian.AppendUint32(nil, uint32(8+len(c.key)))
	raw = append(binary.BigEndian.AppendUint32(raw, cancelRequest), c.key...)
	ask := func() {
		nc, err := net.Dial("tcp", address(c.place))
		if err != nil {
			return
		}
		_, _ = nc.Write(raw)
		_, _ = io.Copy(io.Discard, nc) // up to its end: the server has seen to it
		_ = nc.Close()
	}
	ask()
	stop, stopped := make(chan struct{}), make(chan struct{})
	c.cancels = func() { close(stop); <-stopped }
	go func() {
		defer close(stopped)
		for {
			select {
			case <-time.After(cancelPace):
				ask()
			case <-stop:
				return
			}
		}
	}()
}

// Drop closes a connection.
func (s *Script) Drop(name string) {
	c := s.client(name)
	if c.cancels != nil {
		c.cancels()
	}
	_ = c.net.Close()
	delete(s.clients, name)
}

func (s *Script) dropAll() {
	for name := range s.clients {
		s.Drop(name)
	}
}

// messages sends messages separated by "|", and gives for each that is answered the types of message that end its answer.
func (s *Script) messages(c *client, words []string) (answers [][]string) {
	for len(words) > 0 {
		end := slices.Index(words, "|")
		if end < 0 {
			end = len(words)
		}
		m, until := frontendMessage(words[:end])
		if m == nil {
			s.T.Fatalf("%s: there is no message %s", s.where, words[0])
		}
		c.send(m)
		if until != nil {
			answers = append(answers, until)
		}
		words = words[min(end+1, len(words)):]
	}
	return answers
}

func (s *Script) answers(c *client, answers [][]string) {
	for _, until := range answers {
		last := s.read(c, append(until, "ErrorResponse")...)
		if last == "ErrorResponse" && answers[len(answers)-1][0] == "ReadyForQuery" {
			s.read(c, "ReadyForQuery") // what was between is skipped
		}
		if last == "ErrorResponse" || last == "close" {
			return
		}
	}
}
