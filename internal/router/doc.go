// Package router has any node take any statement. A Router owns the sessions of a node's clients; each
// statement runs here, in the node's own engine, or away, in the leader's.
//
// Its nouns: a Session is a client's; here is its engine.Session, which comes and goes with the node's engine
// while the client stays; away is its link, a connection to the leader that speaks PostgreSQL's protocol; a cycle is the
// client's messages up to ReadyForQuery, the unit that runs in one place. A block that writes is away as a whole.
//
// Where a statement belongs follows from what the dialect has found in its tokens. What that does not see SQLite
// refuses here, before it has an effect, and then it goes away. The answers of the leader pass as they come.
//
// What is sent away and not answered may have happened or not. It is sent again only if it has certainly had no effect: it never
// left whole, or a node that did not lead has said so, or it stood in a block without its COMMIT. Otherwise the client is told that the
// outcome is unknown.
//
// In a process without data, which stands in front of a cluster, here is a session of a hollow engine, and there are two links: see front.
//
// A session is used from its connection's goroutine, but for Cancel. Nothing survives the process.
package router
