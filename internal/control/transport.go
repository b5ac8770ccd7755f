package control

import (
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"skein/internal/rest"
)

// redialPause is how long Raft waits between two attempts to reach a server.
const redialPause = 100 * time.Millisecond

// errUnreached is the error of a server that could not be connected to.
type errUnreached struct{ error }

func (e errUnreached) Unwrap() error { return e.error }

// transport is Raft's, and patient with servers that are not there. Raft waits longer after each failure, 10 s in the
// end: so long would a node that comes back after an outage count as dead, and if its vote is needed, nothing would be decided. Here an
// attempt to send it entries fails only when it was reached.
type transport struct {
	*raft.NetworkTransport
	wanted func(id raft.ServerID, at raft.ServerAddress, term uint64) bool // says whether entries are to be sent there still
	layer  *layer
}

func (t *transport) AppendEntries(id raft.ServerID, at raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	for {
		err := t.NetworkTransport.AppendEntries(id, at, args, resp)
		if !errors.As(err, new(errUnreached)) || !t.wanted(id, at, args.Term) || rest.For(t.layer.open, redialPause) != nil {
			return err
		}
	}
}

// sendsTo says whether this node is the leader of a term in which entries go to a server at an address.
func (c *Control) sendsTo(id raft.ServerID, at raft.ServerAddress, term uint64) bool {
	return c.raft.State() == raft.Leader && c.raft.CurrentTerm() == term &&
		slices.ContainsFunc(c.raft.GetConfiguration().Configuration().Servers, func(s raft.Server) bool { return s.ID == id && s.Address == at })
}
