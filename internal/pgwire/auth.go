package pgwire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"

	"skein/internal/sqlstate"
)

// Authentication requests, and the one mechanism.
const (
	authOK           = 0
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12

	scramMechanism = "SCRAM-SHA-256"
)

// authenticate lets the client prove that it is the role it names. Whatever is wrong, a client that
// speaks the protocol learns only that the password failed.
func (s *Server) authenticate(c *Conn, role string) error {
	if !s.options.trusts(c.net.RemoteAddr()) {
		if err := s.scram(c, role); err != nil {
			return err
		}
	}
	c.begin('R')
	c.int32(authOK)
	c.end()
	return nil
}

func (s *Server) scram(c *Conn, role string) error {
	credentials, known := s.credentials(role)
	lookup := func(string) (scram.StoredCredentials, error) { return credentials, nil }
	server, err := scram.SHA256.NewServer(lookup)
	if err != nil {
		return err
	}
	conversation := server.NewConversation()

	c.authRequest(authSASL, scramMechanism+"\x00\x00")
	body, err := c.saslMessage()
	if err != nil {
		return err
	}
	first, err := saslInitialResponse(body)
	if err != nil {
		return err
	}
	challenge, err := conversation.Step(first)
	if err != nil {
		return refused(role)
	}
	c.authRequest(authSASLContinue, challenge)
	if body, err = c.saslMessage(); err != nil {
		return err
	}
	proof, err := conversation.Step(string(body))
	if err != nil || !known || !conversation.Valid() {
		return refused(role)
	}
	c.authRequest(authSASLFinal, proof)
	return nil
}

func refused(role string) *sqlstate.Error {
	return sqlstate.New(sqlstate.InvalidPassword, `password authentication failed for user "%s"`, role)
}

func (c *Conn) authRequest(kind int32, data string) {
	c.begin('R')
	c.int32(kind)
	c.out = append(c.out, data...)
	c.end()
}

func (c *Conn) saslMessage() ([]byte, error) {
	if err := c.flush(); err != nil {
		return nil, err
	}
	kind, body, err := c.receive()
	if err != nil {
		return nil, err
	}
	if kind != 'p' {
		return nil, sqlstate.New(sqlstate.ProtocolViolation, "expected SASL response, got message type %d", kind)
	}
	return body, nil
}

func saslInitialResponse(body []byte) (string, error) {
	f := fields{rest: body}
	mechanism := string(f.text())
	first := f.take(int(f.int32()))
	if err := f.done(); err != nil {
		return "", err
	}
	if mechanism != scramMechanism {
		return "", sqlstate.New(sqlstate.ProtocolViolation, "client selected an invalid SASL authentication mechanism")
	}
	return string(first), nil
}

// credentials are those of the role or, for one that has none, some that no password fits but that
// look the same to the client: the same salt for the same name, the iterations of new passwords.
func (s *Server) credentials(role string) (scram.StoredCredentials, bool) {
	if verifier, ok := s.handler.Verifier(role); ok {
		credentials, err := parseVerifier(verifier)
		if err == nil {
			return credentials, true
		}
		s.options.Logger.Error("unusable password verifier", "role", role, "err", err)
	}
	mac := hmac.New(sha256.New, s.handler.MockSecret())
	mac.Write([]byte(role))
	sum := mac.Sum(nil)
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(sum[:16]), Iters: s.options.ScramIterations},
		StoredKey:  sum,
		ServerKey:  sum,
	}, false
}

// parseVerifier reads PostgreSQL's "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey".
func parseVerifier(verifier string) (scram.StoredCredentials, error) {
	parts := strings.FieldsFunc(verifier, func(r rune) bool { return r == '$' || r == ':' })
	if len(parts) != 5 || parts[0] != scramMechanism {
		return scram.StoredCredentials{}, errors.New("not a SCRAM-SHA-256 verifier")
	}
	iterations, err := strconv.Atoi(parts[1])
	if err != nil || iterations < 1 {
		return scram.StoredCredentials{}, fmt.Errorf("iterations %q", parts[1])
	}
	var keys [3][]byte
	for i := range keys {
		if keys[i], err = base64.StdEncoding.DecodeString(parts[i+2]); err != nil {
			return scram.StoredCredentials{}, err
		}
	}
	if len(keys[1]) != sha256.Size || len(keys[2]) != sha256.Size {
		return scram.StoredCredentials{}, errors.New("key of wrong length")
	}
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(keys[0]), Iters: iterations},
		StoredKey:  keys[1],
		ServerKey:  keys[2],
	}, nil
}
