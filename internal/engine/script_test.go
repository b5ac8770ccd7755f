package engine

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"skein/internal/oid"
)

var update = flag.Bool("update", false, "rewrite what the scripts expect")

// TestScripts plays the conversations in testdata/*.txt, each with a new node. The lines of a script:
//
//	# …                       a comment
//	NAME> SQL                 sends a Query and reads up to ReadyForQuery (or CopyInResponse);
//	                          a line that ends in \ goes on in the next
//	NAME& SQL                 sends a Query and reads nothing
//	NAME< [close|error]       reads what a session was asked before; or up to the connection's end;
//	                          or leaves out what came before an error, where chance has a say in it
//	NAME: MESSAGE | …         messages of the extended protocol and of COPY; reads all their answers
//	connect NAME k=v …        opens a session with these startup parameters; it is done without for the rest
//	cancel NAME               sends a CancelRequest and waits until the server has seen to it
//	running NAME              waits until a session runs what it was asked
//	queued N                  waits until N sessions wait to write
//	close NAME                drops the connection and waits until the session has ended
//	drop NAME                 drops the connection of a session that waits, and will not notice yet
//	follow, lead              has the node follow another from now on, or not any more
//	appointed                 has the leader appointed by the cluster from now on, rather than by configuration
//	waiting N                 waits until N sessions wait for their commit, or for a position to be seen
//	NAME has WHAT             a follower says that it has received, flushed or applied all there is
//	restored                  waits until the leader does not go on without followers any more
//	arrive DATABASE SQL       a change of this database, or of "system", arrives from another node
//	keys                      shows the commits under causality keys that the node below was told of since
//	positions                 shows skein.last_commit, too, whenever a client is told of it
//	node                      shows the settings that the node below was told last
//	restart                   stops the node, reads what that means for each session, and starts it again
//
// What is read is compared with the indented lines below; -update rewrites these.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { playScript(t, file) })
	}
}

func playScript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, rig: newRig(t), clients: map[string]*client{}}
	t.Cleanup(s.closeAll)
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
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
	if *update && !t.Failed() {
		if err := os.WriteFile(file, s.out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

type script struct {
	t       *testing.T
	rig     *rig
	clients map[string]*client
	out     bytes.Buffer

	where         string
	positions     bool
	got, expected []string
}

// client is one session as its client sees it.
type client struct {
	net      net.Conn
	frontend *pgproto3.Frontend
	key      []byte // body of a CancelRequest
}

// compare checks what was read against what the script expects.
func (s *script) compare() {
	for _, g := range s.got {
		fmt.Fprintln(&s.out, " ", g)
	}
	if got, want := strings.Join(s.got, "\n"), strings.Join(s.expected, "\n"); got != want && !*update {
		s.t.Errorf("%s: got\n%s\nwant\n%s", s.where, got, want)
	}
	s.got, s.expected = nil, nil
}

func (s *script) line(line string) {
	if line == "" || line[0] == '#' {
		return
	}
	words := strings.Fields(line)
	switch words[0] {
	case "connect":
		s.connect(words[1], words[2:])
	case "cancel":
		s.cancel(s.client(words[1]))
	case "running":
		s.rig.running(binary.BigEndian.Uint32(s.client(words[1]).key))
	case "queued":
		n, _ := strconv.Atoi(words[1])
		s.rig.queued(n)
	case "close":
		s.close(words[1])
	case "drop":
		s.drop(words[1])
	case "restart":
		s.restart()
	case "waiting":
		n, _ := strconv.Atoi(words[1])
		s.rig.awaited(int64(n))
	case "restored":
		s.rig.restored()
	case "arrive":
		s.rig.arrive(words[1], strings.Join(words[2:], " "))
	case "keys":
		s.got = append(s.got, s.rig.keys()...)
	case "positions":
		s.positions = true
	case "node":
		s.got = append(s.got, s.rig.told()...)
	case "appointed":
		s.rig.engine.options.Failover = newAppointing()
	case "follow", "lead":
		s.rig.following.Store(words[0] == "follow")
	default:
		if len(words) == 3 && words[1] == "has" {
			s.rig.acknowledge(words[0], words[2])
			return
		}
		name, rest, _ := strings.Cut(line, " ")
		s.talk(s.client(name[:len(name)-1]), name[len(name)-1], rest)
	}
}

func (s *script) talk(c *client, verb byte, rest string) {
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
		s.messages(c, splitWords(rest))
	default:
		s.t.Fatalf("%s: what is %q?", s.where, verb)
	}
}

// client gives the session of this name, opening it when it is new.
func (s *script) client(name string) *client {
	if s.clients[name] == nil {
		before := s.got
		s.connect(name, nil)
		s.got = before
	}
	return s.clients[name]
}

func (s *script) connect(name string, params []string) {
	nc, err := net.Dial("tcp", s.rig.address)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	c := &client{net: nc, frontend: pgproto3.NewFrontend(nc, nc)}
	s.clients[name] = c
	m := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": DefaultRole, "database": DefaultDatabase}}
	for _, p := range params {
		k, v, _ := strings.Cut(p, "=")
		m.Parameters[k] = strings.ReplaceAll(v, "+", " ")
	}
	c.send(m)
	s.read(c, "ReadyForQuery")
	s.got = withoutStartup(s.got)
}

// withoutStartup leaves of a startup what is worth reading.
func withoutStartup(lines []string) (kept []string) {
	for _, l := range lines {
		if !strings.HasPrefix(l, "ParameterStatus") && !strings.HasPrefix(l, "Authentication") && l != "BackendKeyData" {
			kept = append(kept, l)
		}
	}
	return kept
}

func (c *client) send(m pgproto3.FrontendMessage) {
	raw, _ := m.Encode(nil)
	_, _ = c.net.Write(raw) // what goes wrong shows when the answer is read
}

// read reads up to a message of one of these types, or to the connection's end, and gives the last type.
func (s *script) read(c *client, until ...string) string {
	for {
		m, err := c.frontend.Receive()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				s.t.Fatalf("%s: no answer; so far: %q", s.where, s.got)
			}
			s.got = append(s.got, "close")
			return "close"
		}
		name := strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.")
		if k, ok := m.(*pgproto3.BackendKeyData); ok {
			c.key = append(binary.BigEndian.AppendUint32(nil, k.ProcessID), k.SecretKey...)
		}
		if p, ok := m.(*pgproto3.ParameterStatus); ok && p.Name == "skein.last_commit" && !s.positions {
			continue
		}
		s.got = append(s.got, strings.Split(describe(name, m), "\n")...)
		for _, u := range until {
			if name == u {
				return name
			}
		}
	}
}

// describe tells of a message what a reader of the script wants to know.
func describe(name string, m pgproto3.BackendMessage) string {
	switch m := m.(type) {
	case *pgproto3.ErrorResponse:
		return describeError(m)
	case *pgproto3.NoticeResponse:
		return describeError((*pgproto3.ErrorResponse)(m))
	case *pgproto3.ParameterStatus:
		return fmt.Sprintf("%s %s=%s", name, m.Name, m.Value)
	case *pgproto3.ReadyForQuery:
		return fmt.Sprintf("[%c]", m.TxStatus)
	case *pgproto3.CommandComplete:
		return string(m.CommandTag)
	case *pgproto3.RowDescription:
		var fields []string
		for _, f := range m.Fields {
			fields = append(fields, string(f.Name)+" "+typeName(f.DataTypeOID))
		}
		return "(" + strings.Join(fields, ", ") + ")"
	case *pgproto3.ParameterDescription:
		var types []string
		for _, t := range m.ParameterOIDs {
			types = append(types, typeName(t))
		}
		return name + " " + strings.Join(types, ", ")
	case *pgproto3.DataRow:
		var values []string
		for _, v := range m.Values {
			values = append(values, value(v))
		}
		return "| " + strings.Join(values, " | ")
	case *pgproto3.CopyData:
		return name + " " + strconv.Quote(string(m.Data))
	case *pgproto3.CopyInResponse:
		return fmt.Sprintf("%s %d %v", name, m.OverallFormat, m.ColumnFormatCodes)
	case *pgproto3.CopyOutResponse:
		return fmt.Sprintf("%s %d %v", name, m.OverallFormat, m.ColumnFormatCodes)
	}
	return name
}

var moments = regexp.MustCompile(`\b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z`)

func describeError(m *pgproto3.ErrorResponse) string {
	lines := []string{fmt.Sprintf("%s %s: %s", m.Severity, m.Code, m.Message)}
	for _, f := range [][2]string{
		{"detail", m.Detail}, {"schema", m.SchemaName}, {"table", m.TableName}, {"column", m.ColumnName}, {"constraint", m.ConstraintName},
	} {
		if f[1] != "" {
			lines = append(lines, "  "+f[0]+": "+moments.ReplaceAllString(f[1], "(some time)"))
		}
	}
	return strings.Join(lines, "\n")
}

func typeName(t uint32) string {
	if known := oid.ByOID(oid.OID(t)); known != nil {
		return known.Name
	}
	return strconv.Itoa(int(t))
}

func value(v []byte) string {
	if v == nil {
		return "NULL"
	}
	if q := strconv.Quote(string(v)); len(q) != len(v)+2 {
		return q
	}
	return string(v)
}

// messages sends messages separated by "|" and reads as many answers as they have.
func (s *script) messages(c *client, words []string) {
	var answers [][]string
	for len(words) > 0 {
		end := 0
		for end < len(words) && words[end] != "|" {
			end++
		}
		m, until := frontendMessage(words[:end])
		c.send(m)
		if until != nil {
			answers = append(answers, until)
		}
		words = words[min(end+1, len(words)):]
	}
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

// frontendMessage gives a message and the types of message that end its answer.
func frontendMessage(words []string) (pgproto3.FrontendMessage, []string) {
	arg := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	switch words[0] {
	case "Query":
		return &pgproto3.Query{String: arg(1)}, []string{"ReadyForQuery"}
	case "Parse": // Parse name sql oid …
		m := &pgproto3.Parse{Name: arg(1), Query: arg(2)}
		for _, w := range words[min(3, len(words)):] {
			n, _ := strconv.Atoi(w)
			m.ParameterOIDs = append(m.ParameterOIDs, uint32(n))
		}
		return m, []string{"ParseComplete"}
	case "Bind": // Bind portal statement parameter …
		m := &pgproto3.Bind{DestinationPortal: arg(1), PreparedStatement: arg(2)}
		for _, p := range words[min(3, len(words)):] {
			m.Parameters = append(m.Parameters, []byte(p))
		}
		return m, []string{"BindComplete"}
	case "Describe":
		return &pgproto3.Describe{ObjectType: arg(1)[0], Name: arg(2)}, []string{"RowDescription", "NoData"}
	case "Execute": // Execute portal limit
		n, _ := strconv.Atoi(arg(2))
		return &pgproto3.Execute{Portal: arg(1), MaxRows: uint32(n)},
			[]string{"CommandComplete", "PortalSuspended", "EmptyQueryResponse", "CopyInResponse"}
	case "Close":
		return &pgproto3.Close{ObjectType: arg(1)[0], Name: arg(2)}, []string{"CloseComplete"}
	case "Sync":
		return &pgproto3.Sync{}, []string{"ReadyForQuery"}
	case "Flush":
		return &pgproto3.Flush{}, nil
	case "Terminate":
		return &pgproto3.Terminate{}, nil
	case "CopyData":
		return &pgproto3.CopyData{Data: []byte(arg(1))}, nil
	case "CopyDone": // of a simple query
		return &pgproto3.CopyDone{}, []string{"ReadyForQuery"}
	case "CopyEnd": // of an Execute
		return &pgproto3.CopyDone{}, []string{"CommandComplete"}
	case "CopyFail":
		return &pgproto3.CopyFail{Message: arg(1)}, []string{"ReadyForQuery"}
	}
	panic("no such message: " + words[0])
}

// splitWords splits at spaces; a word may be a Go string literal.
func splitWords(line string) []string {
	var words []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if prefix, err := strconv.QuotedPrefix(line); err == nil && prefix[0] != '\'' {
			word, _ := strconv.Unquote(prefix)
			words, line = append(words, word), line[len(prefix):]
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		words, line = append(words, word), rest
	}
	return words
}

func (s *script) cancel(c *client) {
	nc, err := net.Dial("tcp", s.rig.address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer nc.Close()
	raw := binary.BigEndian.AppendUint32(nil, uint32(8+len(c.key)))
	_, _ = nc.Write(append(binary.BigEndian.AppendUint32(raw, 80877102), c.key...))
	_, _ = io.Copy(io.Discard, nc)
}

func (s *script) close(name string) {
	pid := binary.BigEndian.Uint32(s.clients[name].key)
	s.drop(name)
	s.rig.gone(pid)
}

func (s *script) restart() {
	s.rig.stop()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(s.clients)) {
		s.got = nil
		s.read(s.clients[name], "close")
		for _, l := range s.got {
			all = append(all, name+": "+l)
		}
		s.drop(name)
	}
	s.got = all
	s.rig.start()
}

func (s *script) drop(name string) {
	_ = s.clients[name].net.Close()
	delete(s.clients, name)
}

func (s *script) closeAll() {
	for name, c := range s.clients {
		_ = c.net.Close()
		delete(s.clients, name)
	}
	s.rig.allGone()
}
