// Package history names points in the one ordered history of a cluster: which leadership wrote an
// entry (Epoch), which entry it is (LSN), and which exact past stands before it (Hash). It holds no
// state and does no I/O; every layer above speaks in these types so that an epoch, an LSN and a
// database can never be mistaken for each other.
package history

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Epoch numbers a leadership. It only grows; at most one leader writes in each.
type Epoch uint64

// LSN numbers an entry of the log: dense, from 1, one per committed transaction. Zero is "nothing yet".
type LSN uint64

// Hash stands for a whole past: the chain hash over the headers of every entry so far.
type Hash uint64

// DatabaseID names a database within a cluster. It is never used again after a drop.
type DatabaseID uint32

// SystemDatabase holds the cluster's own tables: databases and roles.
const SystemDatabase DatabaseID = 1

// Position says which history, not only how far. Two nodes with equal positions hold equal bytes.
type Position struct {
	Epoch Epoch
	LSN   LSN
	Chain Hash // over the header of entry LSN
}

// String gives "epoch/LSN/chain".
func (p Position) String() string { return fmt.Sprintf("%d/%d/%016x", p.Epoch, p.LSN, uint64(p.Chain)) }

// Less orders positions as a promotion does: the epoch first, then the LSN.
func (p Position) Less(o Position) bool {
	if p.Epoch != o.Epoch {
		return p.Epoch < o.Epoch
	}
	return p.LSN < o.LSN
}

// PgLSN spells an LSN the way tools expect pg_lsn: two hexadecimal halves.
func (l LSN) PgLSN() string {
	var room [17]byte
	return string(l.appendPgLSN(room[:0]))
}

func (l LSN) appendPgLSN(text []byte) []byte {
	text = append(appendHex(text, uint32(l>>32)), '/')
	return appendHex(text, uint32(l))
}

// appendHex writes n as %X does.
func appendHex(text []byte, n uint32) []byte {
	const digits = "0123456789ABCDEF"
	for shift := max(bits.Len32(n)-1, 0) / 4 * 4; shift >= 0; shift -= 4 {
		text = append(text, digits[n>>shift&15])
	}
	return text
}

var errBadLSN = errors.New("not an LSN: want two hexadecimal numbers, as in 0/1A2B")

// ParseLSN reads what PgLSN writes.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok {
		return 0, errBadLSN
	}
	h, err := strconv.ParseUint(hi, 16, 32)
	if err != nil {
		return 0, errBadLSN
	}
	l, err := strconv.ParseUint(lo, 16, 32)
	if err != nil {
		return 0, errBadLSN
	}
	return LSN(h<<32 | l), nil
}
