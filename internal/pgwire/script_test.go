package pgwire

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"
)

var update = flag.Bool("update", false, "rewrite the expected messages in the scripts")

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// TestScripts plays the conversations in testdata/*.txt against a server with a fake session. The
// lines of a script:
//
//	# ...                 a comment
//	server k=v ...        options, before the first conn: trust, password, max, unauthenticated, message
//	conn NAME             opens a connection, or turns to one that is open
//	> MESSAGE             adds a frontend message to what is sent next
//	send                  sends without reading
//	= TYPE [n]            sends, then reads up to the n-th message of that type; "= close": to the end
//	< MESSAGE             what was read, compared; -update rewrites it
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
	s := &script{t: t, conns: map[string]*scriptConn{}, options: Options{Trust: true}}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		s.line(fmt.Sprintf("%s:%d", file, n), lines.Text())
	}
	s.compare()
	if *update {
		if err := os.WriteFile(file, s.out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

type script struct {
	t       *testing.T
	options Options
	address string
	conns   map[string]*scriptConn
	at      *scriptConn
	out     bytes.Buffer

	where    string
	got      []string
	expected []string
}

type scriptConn struct {
	net      net.Conn
	frontend *pgproto3.Frontend
	pending  []byte
	key      []byte // body of BackendKeyData
}

func (s *script) line(where, line string) {
	word, rest, _ := strings.Cut(line, " ")
	if word == "<" {
		s.expected = append(s.expected, rest)
		return
	}
	s.compare()
	s.where = where
	fmt.Fprintln(&s.out, line)
	switch word {
	case "", "#":
	case "server":
		s.server(strings.Fields(rest))
	case "conn":
		s.connect(rest)
	case ">":
		s.at.pending = append(s.at.pending, s.message(rest)...)
	case "send":
		s.send()
	case "=":
		s.send()
		s.read(strings.Fields(rest))
	default:
		s.t.Fatalf("%s: what is %q?", where, word)
	}
}

// compare checks what was read since the last "=" against the lines that followed it.
func (s *script) compare() {
	for _, g := range s.got {
		fmt.Fprintln(&s.out, "<", g)
	}
	if got, want := strings.Join(s.got, "\n"), strings.Join(s.expected, "\n"); got != want && !*update {
		s.t.Errorf("%s: got\n%s\nwant\n%s", s.where, got, want)
	}
	s.got, s.expected = nil, nil
}

func (s *script) server(options []string) {
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		n, _ := strconv.Atoi(v)
		switch k {
		case "password":
			s.options.Trust = false
		case "max":
			s.options.MaxConnections = n
		case "message":
			s.options.MaxMessageBytes = n
		case "authms":
			s.options.AuthTimeout = time.Duration(n) * time.Millisecond
		}
	}
}

func (s *script) connect(name string) {
	if s.address == "" {
		s.address, _ = startServer(s.t, newFakeHandler(s.t), s.options)
	}
	if s.at = s.conns[name]; s.at != nil {
		return
	}
	nc, err := net.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	s.at = &scriptConn{net: nc, frontend: pgproto3.NewFrontend(nc, nc)}
	s.conns[name] = s.at
}

func (s *script) send() {
	_, _ = s.at.net.Write(s.at.pending)
	s.at.pending = nil
}

func (s *script) read(until []string) {
	count := 1
	if len(until) > 1 {
		count, _ = strconv.Atoi(until[1])
	}
	if until[0] == "byte" { // the answer to SSLRequest has no frame
		b := make([]byte, 1)
		n, _ := s.at.net.Read(b)
		s.got = append(s.got, fmt.Sprintf("byte %q", b[:n]))
		return
	}
	for count > 0 {
		m, err := s.at.frontend.Receive()
		if err != nil {
			s.got = append(s.got, closing(err))
			return
		}
		text := s.describe(m)
		s.got = append(s.got, text)
		if strings.HasPrefix(text, until[0]) {
			count--
		}
	}
}

func closing(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "(nothing more)"
	}
	return "close" // an end of file or a reset: it depends on what the server had not read
}

func (s *script) describe(m pgproto3.BackendMessage) string {
	name := strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.")
	switch m := m.(type) {
	case *pgproto3.ErrorResponse:
		text := fmt.Sprintf("%s %s %s %q", name, m.Severity, m.Code, m.Message)
		for _, more := range []string{m.Detail, m.Hint} {
			if more != "" {
				text += fmt.Sprintf(" %q", more)
			}
		}
		if m.Position != 0 {
			text += fmt.Sprintf(" at %d", m.Position)
		}
		return text
	case *pgproto3.NoticeResponse:
		return fmt.Sprintf("%s %s %q", name, m.Severity, m.Message)
	case *pgproto3.BackendKeyData:
		s.at.key, _ = m.Encode(nil)
		s.at.key = s.at.key[5:]
		return fmt.Sprintf("%s of %d bytes", name, len(m.SecretKey))
	case *pgproto3.ParameterStatus:
		return fmt.Sprintf("%s %s=%s", name, m.Name, m.Value)
	case *pgproto3.ReadyForQuery:
		return fmt.Sprintf("%s %c", name, m.TxStatus)
	case *pgproto3.CommandComplete:
		return fmt.Sprintf("%s %s", name, m.CommandTag)
	case *pgproto3.RowDescription:
		for _, f := range m.Fields {
			name += fmt.Sprintf(" %s:%d", f.Name, f.DataTypeOID)
		}
	case *pgproto3.ParameterDescription:
		return fmt.Sprintf("%s %v", name, m.ParameterOIDs)
	case *pgproto3.DataRow:
		for _, v := range m.Values {
			name += " " + quoted(v)
		}
	case *pgproto3.CopyData:
		return name + " " + quoted(m.Data)
	case *pgproto3.CopyInResponse:
		return fmt.Sprintf("%s %d of %d", name, m.OverallFormat, len(m.ColumnFormatCodes))
	case *pgproto3.CopyOutResponse:
		return fmt.Sprintf("%s %d of %d", name, m.OverallFormat, len(m.ColumnFormatCodes))
	case *pgproto3.NegotiateProtocolVersion:
		return fmt.Sprintf("%s %d.%d %v", name, m.NewestMinorProtocol>>16, m.NewestMinorProtocol&0xffff, m.UnrecognizedOptions)
	case *pgproto3.AuthenticationSASL:
		return fmt.Sprintf("%s %v", name, m.AuthMechanisms)
	}
	return name
}

func quoted(v []byte) string {
	if v == nil {
		return "NULL"
	}
	return strconv.Quote(string(v))
}

// message encodes one line of the script.
func (s *script) message(line string) []byte {
	words := splitWords(line)
	arg := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	switch words[0] {
	case "hex":
		raw, err := hex.DecodeString(strings.Join(words[1:], ""))
		if err != nil {
			s.t.Fatal(s.where, err)
		}
		return raw
	case "ssl":
		return startupFrame(sslRequest, nil)
	case "gss":
		return startupFrame(gssRequest, nil)
	case "cancel": // cancel NAME [wrong]
		key := bytes.Clone(s.conns[arg(1)].key)
		if arg(2) == "wrong" {
			key[len(key)-1]++
		}
		return startupFrame(cancelRequest, key)
	case "startup": // startup 3.0 user alice ...
		major, minor, _ := strings.Cut(arg(1), ".")
		hi, _ := strconv.Atoi(major)
		lo, _ := strconv.Atoi(minor)
		var body []byte
		for _, w := range words[2:] {
			body = append(append(body, w...), 0)
		}
		return startupFrame(uint32(hi<<16|lo), append(body, 0))
	case "scram":
		return s.scram(arg(1))
	}
	raw, err := frontendMessage(words).Encode(nil)
	if err != nil {
		s.t.Fatal(s.where, err)
	}
	return raw
}

// scram plays the exchange up to the proof, which it returns.
func (s *script) scram(password string) []byte {
	client, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		s.t.Fatal(err)
	}
	conversation := client.NewConversation()
	first, _ := conversation.Step("")
	m, _ := (&pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte(first)}).Encode(nil)
	s.at.pending = append(s.at.pending, m...)
	s.send()
	for {
		m, err := s.at.frontend.Receive()
		if err != nil {
			s.t.Fatal(s.where, err)
		}
		if c, ok := m.(*pgproto3.AuthenticationSASLContinue); ok {
			proof, err := conversation.Step(string(c.Data))
			if err != nil {
				s.t.Fatal(s.where, err)
			}
			raw, _ := (&pgproto3.SASLResponse{Data: []byte(proof)}).Encode(nil)
			return raw
		}
	}
}

func startupFrame(code uint32, body []byte) []byte {
	raw := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(binary.BigEndian.AppendUint32(raw, code), body...)
}

// frontendMessage builds a message out of its name and operands.
func frontendMessage(words []string) pgproto3.FrontendMessage {
	arg := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	number := func(i int) int {
		n, _ := strconv.Atoi(arg(i))
		return n
	}
	switch words[0] {
	case "Query":
		return &pgproto3.Query{String: arg(1)}
	case "Parse": // Parse name sql
		return &pgproto3.Parse{Name: arg(1), Query: arg(2)}
	case "Bind": // Bind portal statement parameter ...
		b := &pgproto3.Bind{DestinationPortal: arg(1), PreparedStatement: arg(2)}
		for _, p := range words[min(3, len(words)):] {
			b.Parameters = append(b.Parameters, []byte(p))
		}
		return b
	case "Describe":
		return &pgproto3.Describe{ObjectType: arg(1)[0], Name: arg(2)}
	case "Execute": // Execute portal limit
		return &pgproto3.Execute{Portal: arg(1), MaxRows: uint32(number(2))}
	case "Close":
		return &pgproto3.Close{ObjectType: arg(1)[0], Name: arg(2)}
	case "Sync":
		return &pgproto3.Sync{}
	case "Flush":
		return &pgproto3.Flush{}
	case "Terminate":
		return &pgproto3.Terminate{}
	case "CopyData":
		return &pgproto3.CopyData{Data: []byte(arg(1))}
	case "CopyDone":
		return &pgproto3.CopyDone{}
	case "CopyFail":
		return &pgproto3.CopyFail{Message: arg(1)}
	case "FunctionCall":
		return &pgproto3.FunctionCall{Function: 1}
	case "PasswordMessage":
		return &pgproto3.PasswordMessage{Password: arg(1)}
	}
	return &pgproto3.Query{String: strings.Join(words, " ")}
}

// splitWords splits at spaces; a word may be a Go string literal.
func splitWords(line string) []string {
	var words []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if prefix, err := strconv.QuotedPrefix(line); err == nil {
			word, _ := strconv.Unquote(prefix)
			words, line = append(words, word), line[len(prefix):]
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		words, line = append(words, word), rest
	}
	return words
}

var _ io.Reader = (*CopyReader)(nil)
