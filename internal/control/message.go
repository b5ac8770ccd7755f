package control

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"skein/internal/failover"
)

// maxMessage bounds a message between nodes. It is read before memory is taken for it.
const maxMessage = 1 << 20

var errTooLarge = errors.New("message announces more than it may hold")

// messages is a connection in messages: their length (4) and JSON. One goroutine reads and one writes.
type messages struct {
	net.Conn
	in *bufio.Reader
}

func newMessages(c net.Conn) *messages { return &messages{c, bufio.NewReader(c)} }

// send writes one message, which the other side has to take in time.
func (m *messages) send(v any, within time.Duration) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > maxMessage {
		return fmt.Errorf("%w: %d bytes of %d", errTooLarge, len(body), maxMessage)
	}
	if err := m.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err = m.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

// receive reads the next message, which has to come in time.
func (m *messages) receive(v any, within time.Duration) error {
	if err := m.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	return readMessage(m.in, v)
}

func readMessage(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > maxMessage {
		return fmt.Errorf("%w: %d bytes of %d", errTooLarge, n, maxMessage)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("read a message: %w", err)
	}
	return nil
}

// raftHello begins a connection of Raft's, raftWelcome answers it.
type (
	raftHello   struct{ From, To string } // names of servers; see server
	raftWelcome struct{ Refused string }
)

// watchHello begins a stream, which the coordinator dials.
type watchHello struct {
	From, To failover.NodeID
	Term     uint64
}

// watchWelcome answers it.
type watchWelcome struct {
	Node    failover.NodeID
	Store   string
	Refused string
}

// push is what the coordinator says on a stream. An empty one says that it is there.
type push struct {
	State *failover.State `json:",omitempty"`
	// Grant is the number of a report, from whose sending on the node has a lease for so long.
	Grant uint64        `json:",omitempty"`
	Lease time.Duration `json:",omitempty"`
}

// numbered is what a node says on a stream.
type numbered struct {
	Number uint64 // grows; begins anywhere, so that a lease of another connection is none here
	Report failover.Report
}

// request is the only message of whoever dials for a command.
type request struct {
	ID      string            // of the command, the same when it is carried again
	Command *failover.Command // nil: only the facts are wanted
}

// answer is the answer.
type answer struct {
	State   failover.State
	Facts   failover.Facts
	Refused string // what was wrong with the command; nothing was done
	// Elsewhere is the coordinator, when another node was asked.
	Elsewhere *place
	Again     string // why the request may be repeated
}

// place is a node and where it is reached.
type place struct {
	Node    failover.NodeID
	Address string
}
