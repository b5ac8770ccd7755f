// Package replog is the replication log: the one ordered, durable record of every committed
// transaction of a node, for all of its databases.
//
// An Entry is one transaction: for each page that it changed, the byte ranges that changed. On disk
// it is one frame, or several when it is large; frames lie in segments, files of one size that are
// filled with zeros before use, so that a commit's fdatasync has no file size or block map to
// write. The bytes are drawn in docs/FORMAT.md.
//
// Append puts an entry behind the last one and returns, without waiting for the disk unless the disk is
// far behind. Whoever waits first writes all that has gathered and makes it durable with one
// fdatasync, which advances Flushed; Run, one goroutine, does so for what nobody waits for. Append and
// Wait may be called from any goroutine; entries are ordered by Append's lock. What Flushed has passed survives a power
// cut; what it has not may be missing, but never in the middle: an entry is only found again if
// every one before it is.
//
// A Reader gives the frames as they are on disk, from any entry on, to be sent to other nodes or
// to be applied here; AppendFrames takes what another node's reader gave, so that logs are equal byte for
// byte but for each node's own hints. What a reader may have is what a flush has taken: it travels
// while it is being written. Cut takes back a tail that the leader's log does not have.
package replog

import (
	"errors"

	"skein/internal/history"
)

// FormatVersion stands in the first bytes of every segment. A log with another one is refused.
const FormatVersion = 2

// Kind says what an entry is.
type Kind uint8

// The kinds of entries.
const (
	Transaction   Kind = 1 // page changes of one database
	EpochStart    Kind = 2 // a leader's first entry in its epoch
	Configuration Kind = 3 // cluster settings
	NoOp          Kind = 4 // nothing: a mark in time
)

// Entry is one committed transaction. Append fills in LSN and Chain.
type Entry struct {
	Epoch    history.Epoch
	LSN      history.LSN
	Chain    history.Hash // over the header before: the previous entry's, or of a further piece the previous piece's
	Database history.DatabaseID
	Kind     Kind
	Time     int64  // wall clock of the commit, microseconds since 1970
	Pages    uint32 // pages in the database afterwards
	Checksum uint64 // of the database afterwards
	Body     []byte // page changes, see AppendPage; one chunk of them when Chunk or More say so
	Chunk    uint16 // number of this piece of a large entry, from 0
	More     bool   // further pieces follow
}

// Errors of this package. ErrDamaged and the errors of formats are wrapped with the place and the remedy.
var (
	ErrDamaged     = errors.New("replication log is damaged")
	ErrNewerFormat = errors.New("replication log was written by a newer version of Skein")
	ErrOlderFormat = errors.New("replication log was written by an older version of Skein")
	ErrForeign     = errors.New("replication log belongs to another cluster")
	ErrClosed      = errors.New("replication log is closed")
	ErrTrimmed     = errors.New("replication log no longer holds the entry")
	ErrNotYet      = errors.New("replication log does not hold the entry yet")
	ErrNotNext     = errors.New("entry does not follow the log's last one")
	ErrCut         = errors.New("replication log was cut below what has been read")
	ErrFenced      = errors.New("a later leadership was promised")
	ErrExists      = errors.New("directory holds a replication log already")
)
