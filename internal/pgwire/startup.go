package pgwire

import (
	"crypto/rand"
	"encoding/binary"
	"io"
	"strings"
	"unicode/utf8"

	"skein/internal/sqlstate"
)

const (
	// maxUnauthenticatedMessage is PostgreSQL's limit on a startup packet.
	maxUnauthenticatedMessage = 10_000
	maxCancelKey              = 256

	cancelRequest = 1234<<16 | 5678
	sslRequest    = 1234<<16 | 5679
	gssRequest    = 1234<<16 | 5680

	protocolMajor = 3
	newestMinor   = 2
)

// errNoSession ends a connection that has nothing more to say: a served CancelRequest, or bytes that
// came before their time.
var errNoSession = io.EOF

// startup reads the client's first messages up to its StartupMessage. Encryption is refused, once
// for each kind. A cancel request is served here and ends the connection with errNoSession.
func (s *Server) startup(c *Conn) (Startup, error) {
	refused := map[uint32]bool{}
	for {
		body, err := c.in.startupPacket()
		if err != nil {
			return Startup{}, err
		}
		code := binary.BigEndian.Uint32(body)
		switch {
		case code == cancelRequest:
			s.cancel(c, body[4:])
			return Startup{}, errNoSession
		case (code == sslRequest || code == gssRequest) && !refused[code]:
			refused[code] = true
			// Bytes sent ahead of our answer are a client that does not wait for it, or someone who
			// smuggles plain text before the handshake (CVE-2021-23214).
			if c.in.buffered() > 0 {
				return Startup{}, errNoSession
			}
			c.out = append(c.out, 'N')
			if err := c.flush(); err != nil {
				return Startup{}, err
			}
		default:
			return c.startupMessage(code, body[4:])
		}
	}
}

// startupMessage takes the name=value pairs of a StartupMessage apart and settles the version.
func (c *Conn) startupMessage(version uint32, body []byte) (Startup, error) {
	major, minor := version>>16, uint16(version)
	if major != protocolMajor {
		return Startup{}, sqlstate.New(sqlstate.FeatureNotSupported,
			"unsupported frontend protocol %d.%d: server supports 3.0 to 3.%d", major, minor, newestMinor)
	}
	c.minor = min(minor, newestMinor)
	start := Startup{Params: map[string]string{}, PID: c.pid, RemoteAddr: c.net.RemoteAddr()}
	var unknown []string
	f := fields{rest: body}
	for {
		name := string(f.text())
		if name == "" {
			break
		}
		value := string(f.text())
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return Startup{}, badEncoding([]byte(name + value))
		}
		switch {
		case name == "user":
			start.User = value
		case name == "database":
			start.Database = value
		case strings.HasPrefix(name, "_pq_."):
			unknown = append(unknown, name)
		default:
			start.Params[name] = value
		}
	}
	if f.done() != nil {
		return Startup{}, sqlstate.New(sqlstate.ProtocolViolation,
			"invalid startup packet layout: expected terminator as last byte")
	}
	if minor > newestMinor || len(unknown) > 0 {
		c.negotiate(unknown)
	}
	if start.User == "" {
		return Startup{}, sqlstate.New(sqlstate.InvalidAuthorization,
			"no PostgreSQL user name specified in startup packet")
	}
	if start.Database == "" {
		start.Database = start.User
	}
	return start, nil
}

// negotiate tells the client which version it gets and which options are unknown.
func (c *Conn) negotiate(unknown []string) {
	c.begin('v')
	c.int32(protocolMajor<<16 | int32(c.minor))
	c.int32(int32(len(unknown)))
	for _, name := range unknown {
		c.text(name)
	}
	c.end()
}

// newCancelKey makes the secret of a connection: four bytes is all that protocol 3.0 has room for.
func (c *Conn) newCancelKey() []byte {
	key := make([]byte, 4)
	if c.minor >= 2 {
		key = make([]byte, 32)
	}
	_, _ = rand.Read(key) // never fails: crypto/rand ends the process instead
	return key
}

func (c *Conn) backendKeyData(key []byte) {
	c.begin('K')
	c.int32(int32(c.pid))
	c.out = append(c.out, key...)
	c.end()
}
