package router

import (
	"bytes"
	"encoding/binary"

	"skein/internal/oid"
	"skein/internal/pgwire"
	"skein/internal/sqlstate"
)

// lastCommit is the parameter that tells clients of their last commit.
const lastCommit = "skein.last_commit"

// errorFields takes an ErrorResponse apart.
func errorFields(body []byte) *serverError {
	e := &serverError{}
	for len(body) > 1 {
		kind := body[0]
		var value []byte
		value, body, _ = bytes.Cut(body[1:], []byte{0})
		switch kind {
		case 'V':
			e.fatal = string(value) == "FATAL"
		case 'C':
			e.Code = sqlstate.Code(value)
		case 'M':
			e.Message = string(value)
		case 'D':
			e.Detail = string(value)
		case 'H':
			e.Hint = string(value)
		}
	}
	return e
}

// serverError is what a leader says; those that a router does not pass on as they came.
type serverError struct {
	sqlstate.Error
	fatal bool
}

// oids reads the types of a Parse message.
func oids(body []byte) []oid.OID {
	var types []oid.OID
	for body = body[min(2, len(body)):]; len(body) >= 4; body = body[4:] {
		types = append(types, oid.OID(binary.BigEndian.Uint32(body)))
	}
	return types
}

// fields reads what a RowDescription says of names and types; NoData has none.
func fields(kind byte, body []byte) []pgwire.Field {
	if kind != 'T' || len(body) < 2 {
		return nil
	}
	list := []pgwire.Field{}
	for body = body[2:]; ; {
		name, rest, ok := bytes.Cut(body, []byte{0})
		if !ok || len(rest) < 18 {
			return list
		}
		list = append(list, pgwire.Field{Name: string(name), Type: oid.OID(binary.BigEndian.Uint32(rest[6:]))})
		body = rest[18:]
	}
}
