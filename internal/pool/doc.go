// Package pool knows the nodes of a cluster from outside: for a router process, which holds no data and stands in front
// of them. It asks every node how it is, and says who leads and where a session reads.
//
// Its nouns: a Report is what a node says of itself; a Node is what is made of it; a Place is a session's at a node. Choose is
// pure. A node that does not answer leaves the pool, as does one that lags too far, and comes back when it has answered for
// a while. While none is left the leader takes reads, so many at a time.
//
// Run owns every goroutine; everything else may be called from any. Nothing survives the process.
package pool
