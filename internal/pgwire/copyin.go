package pgwire

import (
	"errors"
	"io"

	"skein/internal/sqlstate"
)

// CopyIn asks the client for COPY data. columns has the format of each column.
func (c *Conn) CopyIn(format int16, columns []int16) (*CopyReader, error) {
	c.copyResponse('G', format, columns)
	if err := c.flush(); err != nil {
		return nil, err
	}
	return &CopyReader{conn: c}, nil
}

// CopyOut announces COPY data to the client.
func (c *Conn) CopyOut(format int16, columns []int16) { c.copyResponse('H', format, columns) }

// CopyData sends a piece of COPY data. It writes to the network past 32 KB and returns its error.
func (c *Conn) CopyData(data []byte) error {
	c.begin('d')
	c.out = append(c.out, data...)
	c.end()
	return c.flushPast(flushAt)
}

// CopyDone ends the COPY data.
func (c *Conn) CopyDone() { c.bare('c') }

func (c *Conn) copyResponse(kind byte, format int16, columns []int16) {
	c.begin(kind)
	c.out = append(c.out, byte(format))
	c.int16(int16(len(columns)))
	for _, f := range columns {
		c.int16(f)
	}
	c.end()
}

// CopyReader reads the data of COPY FROM STDIN.
type CopyReader struct {
	conn *Conn
	data []byte // of the CopyData message read last
	err  error
}

// Read gives io.EOF after CopyDone and a *sqlstate.Error 57014 after CopyFail.
func (r *CopyReader) Read(p []byte) (int, error) {
	for len(r.data) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.data, r.err = r.message()
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}

func (r *CopyReader) message() ([]byte, error) {
	kind, body, err := r.conn.receive()
	if err != nil {
		return nil, r.lost(err)
	}
	switch kind {
	case 'd':
		return body, nil
	case 'c':
		return nil, io.EOF
	case 'f':
		f := fields{rest: body}
		reason := f.text()
		return nil, sqlstate.New(sqlstate.QueryCanceled, "COPY from stdin failed: %s", reason)
	case 'H', 'S':
		return nil, nil // as PostgreSQL: libraries send Flush and Sync without looking
	}
	e := sqlstate.New(sqlstate.ProtocolViolation, "unexpected message type 0x%02X during COPY from stdin", kind)
	if kind == 'X' {
		r.conn.terminate(e)
	}
	return nil, e
}

// lost ends the connection after a failed read. The end of the client's bytes must not look like the
// end of its data: the rows that came would be kept.
func (r *CopyReader) lost(err error) error {
	var e *sqlstate.Error
	if !errors.As(err, &e) {
		e = sqlstate.New(sqlstate.ConnectionFailure, "unexpected end of the client connection during COPY: %s", err)
	}
	r.conn.terminate(e)
	return e
}
