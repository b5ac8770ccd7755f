// Package pagestore keeps the pages of SQLite databases in many versions at once: a base file per
// database as of its checkpoint LSN, and in memory, for pages changed since, a chain of versions,
// newest first. A Snapshot pins one LSN and reads every page as of it, whatever is committed or
// checkpointed meanwhile: readers never block the writer, the writer never blocks readers.
//
// The package knows nothing of SQLite, of the log or of the network. Whoever commits publishes page
// versions in LSN order, one writer per database; Checkpoint moves versions that the caller says
// are safe into the base file. What survives a crash is the base file and its checkpoint record; the
// log replays the rest. Because an entry assigns absolute byte ranges, replaying it over a base page
// that is older, newer or torn ends in the right bytes.
//
// Every page has a hash. A database's checksum is the XOR of them all, kept incrementally; every
// read from the base file is checked against the hash that the page must have, so a flipped bit is
// an error and never an answer.
package pagestore

import (
	"encoding/binary"
	"errors"

	"github.com/zeebo/xxh3"

	"skein/internal/replog"
)

// PageSize is the size of every page, in bytes.
const PageSize = replog.PageSize

// PageNo numbers a page of a database, from 1, as SQLite does.
type PageNo uint32

// Errors of this package.
var (
	ErrDamaged        = errors.New("database file is damaged")
	ErrSnapshotTooOld = errors.New("snapshot too old: the memory for old page versions is used up")
	ErrDiverged       = errors.New("database has diverged from the log")
	ErrNotAbove       = errors.New("what readers have seen, or base files hold, cannot be taken back")
	ErrTakenBack      = errors.New("the transaction that this snapshot stands on has been taken back")
	ErrInstalling     = errors.New("the copying of databases to this directory has not been completed")
	ErrRecovering     = errors.New("databases are still recovering")
	ErrNewerFormat    = errors.New("database was written by a newer version of Skein")
)

var errUnreadable = errors.New("cannot read")

// sum is a page's share in its database's checksum. A page of zeros has none, so that a page never
// written and a page of zeros are the same.
func sum(no PageNo, page []byte) uint64 {
	if binary.LittleEndian.Uint64(page) == 0 && allZero(page) {
		return 0
	}
	return xxh3.HashSeed(page, uint64(no))
}

func allZero(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
	}
	return true
}
