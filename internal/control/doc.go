// Package control is how the nodes of a cluster agree: on failover.State, and on nothing else. It carries
// states, reports and commands between nodes; what a state should be, package failover decides, and what it
// asks of a node, package node does.
//
// Its nouns: a Control is one node's part in it. States are agreed on by Raft, whose log holds one kind of command:
// put this State in place of the one with that version. Raft's leader is the coordinator. It holds a stream to every
// member, itself included, on which it pushes the newest State and leases, and hears Reports; what it has heard are the
// Facts that it asks failover.Next with. The coordinator keeps away from the data leader's node when it can, so that
// one death does not take both.
//
// Other nodes are reached on three Channels, which somebody else opens and accepts: raft's own messages, the
// coordinator's streams, and commands that are carried to the coordinator from anywhere.
//
// A crash leaves what was agreed on in the store of each voter. Leases and reports live in memory only.
package control
