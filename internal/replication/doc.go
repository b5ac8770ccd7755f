// Package replication is everything that travels between nodes: the stream of log entries from a node
// to those that follow it, snapshots of the databases, pages to repair damaged ones with, and
// comparisons that prove two nodes equal.
//
// A Peer is one node's side of it. Serve answers whoever connects to the peer port; what the
// connection is for stands in its first message. Follow keeps this node's log a copy of another's;
// Fetch, for a node whose storage is not open, brings a whole copy. A follower feeds others in the
// same way as a leader does: it sends what its log has and the committed LSN that it was told.
//
// A sender keeps no queue, only a position in the log. What it knows of a follower after the
// connection is gone is the follower's slot: from where on the log is kept for it, within bounds.
//
// Only acknowledgements of the present connection and epoch reach the commit rule, and only from a
// follower that has once caught up since it connected. The bytes are drawn in docs/FORMAT.md.
package replication
