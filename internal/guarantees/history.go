// Package guarantees has many clients use a cluster through all of its nodes, keeps what each was told and when, and holds
// that against what the cluster promises to sessions (I6 to I8): who has written sees it, nobody goes back in time, reads
// are as fresh as their level says, nothing is done twice, nothing that was acknowledged or shown is lost.
//
// All writes go to one table, entry, in which each takes the next number and leaves an id that is used once. So the number
// that a reader sees last says which prefix of the one history of commits it has seen, and the id beside it whether it is
// that history. Judge needs nothing else, and has no clock, no connection and no goroutine; Start runs the clients, Read
// gives what a node has in the end.
package guarantees

import (
	"fmt"
	"time"

	"skein/internal/claims"
)

// Action is what a client asked for.
type Action uint8

// The actions of an Op.
const (
	Write   Action = iota // adds an entry
	Read                  // sees the newest one
	Connect               // goes on over a new connection
)

func (a Action) String() string { return [...]string{"write", "read", "connect"}[a] }

// Level is how fresh a read must be, by the names of skein.read_consistency.
type Level uint8

// The levels.
const (
	Eventual Level = iota
	Session
	Bounded
	Strong
)

func (l Level) String() string { return [...]string{"eventual", "session", "bounded", "strong"}[l] }

// Carried is what a session takes along to a new connection.
type Carried uint8

// What can be carried. Without anything the new connection is a stranger to the old one.
const (
	Nothing  Carried = iota
	Commit           // skein.last_commit: the position of what it has written
	Seen             // skein.last_seen: a position of whatever it has written or read
	Unbroken         // there was no need: the connection is the same

)

func (c Carried) String() string { return [...]string{"nothing", "commit", "seen", "unbroken"}[c] }

// Number counts entries from 1 in the order of their commits. Zero is of an empty table.
type Number int64

// ID names a write. It is used once; zero is of none.
type ID int64

// Op is one thing that a client asked for, and what it was told.
type Op struct {
	Session    int    // one client, over all of its connections; its operations follow each other
	Key        string // causality key; "" is none
	Node       string // that it was asked of
	Action     Action
	Level      Level         // of a read
	Bound      time.Duration // of a bounded read
	Carried    Carried       // of a connect
	Block      int           // transaction block that it is part of; 0: none
	Writes     bool          // that block may write
	Sent, Told time.Duration // by the one clock of the machine; a read in a block is as old as the block's first

	Outcome claims.Outcome // a read or a connect that failed is Refused
	Lost    bool           // the connection ended instead of an answer
	Hung    bool           // there was no answer within the client's patience
	Code    string         // SQLSTATE
	Error   string         // what the client was told, for whoever reads

	ID     ID     // of a write, or the newest that a read saw
	Number Number // that the write took, where that is known; the newest that a read saw

	At   string // position that was reported with a write: a bookmark
	From string // provenance of a read, where it was asked for
}

func (o Op) String() string {
	what := o.Action.String()
	switch o.Action {
	case Read:
		what = o.Level.String() + " read"
		if o.Level == Bounded {
			what = fmt.Sprintf("read bounded by %v", o.Bound)
		}
	case Connect:
		what = "connect with " + o.Carried.String()
	}
	text := fmt.Sprintf("%s of session %d on %s, %.4f to %.4f s: %v", what, o.Session, o.Node, o.Sent.Seconds(), o.Told.Seconds(), o.Outcome)
	if o.Block != 0 {
		text += fmt.Sprintf(", in block %d", o.Block)
	}
	if o.ID != 0 || o.Number != 0 {
		text += fmt.Sprintf(", number %d is %d", o.Number, o.ID)
	}
	for _, more := range []struct{ name, value string }{{"key", o.Key}, {"code", o.Code}, {"at", o.At}, {"from", o.From}, {"error", o.Error}} {
		if more.value != "" {
			text += ", " + more.name + " " + more.value
		}
	}
	return text
}

// Outage is a time during which a node could not be relied on to answer: it was killed, stopped or stood still.
type Outage struct {
	Node       string
	From, Till time.Duration // Till is 0 while it lasts
}

// History is what all clients were told, and what was done to the nodes that they asked.
type History struct {
	Ops     []Op
	Outages []Outage
}

// out says whether a node may have failed to answer something.
func (h History) out(o Op) bool {
	for _, x := range h.Outages {
		if x.Node == o.Node && x.From <= o.Told && (x.Till == 0 || x.Till >= o.Sent) {
			return true
		}
	}
	return false
}

// Entry is a row that a node has in the end.
type Entry struct {
	Number Number
	ID     ID
}
