package pgwire

import (
	"bytes"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"skein/internal/oid"
)

// countingConn counts the system calls that a connection stands for.
type countingConn struct {
	net.Conn
	reads, writes atomic.Int64
}

func (c *countingConn) Read(p []byte) (int, error) {
	c.reads.Add(1)
	return c.Conn.Read(p)
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

type countingListener struct {
	net.Listener
	accepted chan *countingConn
}

func (l *countingListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &countingConn{Conn: nc}
	l.accepted <- c
	return c, nil
}

// preparedRoundTrip is what a driver sends to run a prepared statement once.
func preparedRoundTrip() []byte {
	var raw []byte
	for _, m := range []pgproto3.FrontendMessage{
		&pgproto3.Bind{PreparedStatement: "stmt_1", Parameters: [][]byte{{0, 0, 0, 7}}, ParameterFormatCodes: []int16{1}, ResultFormatCodes: []int16{1}},
		&pgproto3.Describe{ObjectType: 'P'},
		&pgproto3.Execute{},
		&pgproto3.Sync{},
	} {
		raw, _ = m.Encode(raw)
	}
	return raw
}

func benchmarkRoundTrip(b *testing.B, request []byte, answer int) {
	address, _ := startServer(b, newFakeHandler(b), Options{Trust: true})
	nc, f := dialReady(b, address)
	send(b, nc, &pgproto3.Parse{Name: "stmt_1", Query: "echo int4"}, &pgproto3.Sync{})
	readUntil[*pgproto3.ReadyForQuery](b, f)
	buf := make([]byte, answer)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := nc.Write(request); err != nil {
			b.Fatal(err)
		}
		for n := 0; n < answer; {
			got, err := nc.Read(buf[n:])
			if err != nil {
				b.Fatal(err)
			}
			n += got
		}
	}
}

// answerSize is how many bytes the server answers to a request, by asking once.
func answerSize(b *testing.B, request []byte) int {
	address, _ := startServer(b, newFakeHandler(b), Options{Trust: true})
	nc, f := dialReady(b, address)
	send(b, nc, &pgproto3.Parse{Name: "stmt_1", Query: "echo int4"}, &pgproto3.Sync{})
	readUntil[*pgproto3.ReadyForQuery](b, f)
	if _, err := nc.Write(request); err != nil {
		b.Fatal(err)
	}
	size := 0
	for {
		m, err := f.Receive()
		if err != nil {
			b.Fatal(err)
		}
		raw, _ := m.(interface{ Encode([]byte) ([]byte, error) }).Encode(nil)
		size += len(raw)
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			return size
		}
	}
}

func BenchmarkPreparedRoundTrip(b *testing.B) {
	request := preparedRoundTrip()
	benchmarkRoundTrip(b, request, answerSize(b, request))
}

func BenchmarkSimpleRoundTrip(b *testing.B) {
	request, _ := (&pgproto3.Query{String: "rows 1"}).Encode(nil)
	benchmarkRoundTrip(b, request, answerSize(b, request))
}

// BenchmarkRows measures a result of 10000 rows.
func BenchmarkRows(b *testing.B) {
	address, _ := startServer(b, newFakeHandler(b), Options{Trust: true})
	nc, _ := dialReady(b, address)
	request, _ := (&pgproto3.Query{String: "rows 10000"}).Encode(nil)
	buf := make([]byte, 256<<10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := nc.Write(request); err != nil {
			b.Fatal(err)
		}
		for {
			n, err := nc.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			if n >= 6 && string(buf[n-6:n]) == "Z\x00\x00\x00\x05I" {
				break
			}
		}
	}
}

// TestSystemCallsOfARoundTrip: one read and one write.
func TestSystemCallsOfARoundTrip(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	counted := &countingListener{Listener: l, accepted: make(chan *countingConn, 1)}
	served := make(chan error, 1)
	ctx := t.Context()
	go func() { served <- NewServer(newFakeHandler(t), Options{Trust: true}).Serve(ctx, counted) }()
	nc, f := dialReady(t, l.Addr().String())
	server := <-counted.accepted
	send(t, nc, &pgproto3.Parse{Name: "stmt_1", Query: "echo int4"}, &pgproto3.Sync{})
	readUntil[*pgproto3.ReadyForQuery](t, f)

	reads, writes := server.reads.Load(), server.writes.Load()
	for range 100 {
		if _, err := nc.Write(preparedRoundTrip()); err != nil {
			t.Fatal(err)
		}
		readUntil[*pgproto3.ReadyForQuery](t, f)
	}
	// The read in which the server waits for the next request may or may not have begun.
	if r, w := server.reads.Load()-reads, server.writes.Load()-writes; r < 99 || r > 101 || w != 100 {
		t.Errorf("100 round trips took %d reads and %d writes", r, w)
	}
}

// TestMemoryOfIdleSessions: 1000 sessions that have each run a large result and wait.
func TestMemoryOfIdleSessions(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 2000 sockets")
	}
	const sessions = 1000
	h := newFakeHandler(t)
	address, _ := startServer(t, h, Options{Trust: true, MaxConnections: sessions})
	conns := make([]net.Conn, sessions)
	before := memoryInUse()
	buf := make([]byte, 64<<10)
	for i := range conns {
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		conns[i] = nc
		_ = nc.SetDeadline(time.Now().Add(time.Minute))
		query, _ := (&pgproto3.Query{String: "rows 3000"}).Encode(nil)
		if _, err := nc.Write(append(startupFrame(3<<16, []byte("user\x00alice\x00\x00")), query...)); err != nil {
			t.Fatal(err)
		}
		for ready := 0; ready < 2; {
			n, err := nc.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			for j := 0; j+6 <= n; j++ {
				if string(buf[j:j+5]) == "Z\x00\x00\x00\x05" {
					ready++
				}
			}
		}
	}
	each := (memoryInUse() - before) / sessions
	t.Logf("%d bytes per idle session, of which the client's socket is a small part", each)
	if each > 40<<10 {
		t.Errorf("%d bytes per idle session", each)
	}
}

func memoryInUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}

func BenchmarkAppend(b *testing.B) {
	zone := load(b, "America/New_York")
	env := &Env{TimeZone: zone}
	for _, c := range []struct {
		name string
		typ  oid.OID
		in   string
	}{
		{"int4", oid.Int4, "123456"},
		{"float8", oid.Float8, "0.12345"},
		{"text", oid.Text, "some text of ordinary length"},
		{"numeric", oid.Numeric, "12345.67"},
		{"timestamptz", oid.Timestamptz, "2024-02-29 12:30:15.123456+00"},
		{"_int4", oid.Int4Array, "{1,2,3,4,5,6,7,8}"},
	} {
		v, err := Decode(c.typ, -1, TextFormat, []byte(c.in), env)
		if err != nil {
			b.Fatal(err)
		}
		for format, name := range []string{"text", "binary"} {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				var dst []byte
				b.ReportAllocs()
				for b.Loop() {
					dst, _ = Append(dst[:0], c.typ, int16(format), v, env)
				}
			})
		}
	}
}

func BenchmarkCopyDecode(b *testing.B) {
	for _, c := range []struct {
		format string
		row    string
	}{
		{"text", "12345\tsome text of ordinary length\t2024-02-29 12:30:15\t\\N\n"},
		{"csv", "12345,some text of ordinary length,2024-02-29 12:30:15,\n"},
	} {
		b.Run(c.format, func(b *testing.B) {
			data := []byte(strings.Repeat(c.row, 10000))
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				d := NewCopyDecoder(bytes.NewReader(data), CopyFormat{Format: c.format}, 4)
				for {
					if _, err := d.Next(); err != nil {
						break
					}
				}
			}
		})
	}
}
