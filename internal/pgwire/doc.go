// Package pgwire speaks PostgreSQL's frontend/backend protocol, 3.0 and 3.2, to clients: startup,
// authentication, the message loop, values in text and binary, and COPY rows. What a statement
// means is the business of the Handler and its Sessions, which the engine implements.
//
// The nouns: a Server accepts connections; each has a Conn, which frames and buffers messages, and,
// once authenticated, a Session. One goroutine per connection, started by Serve and waited for by
// it, reads the messages and calls the Session; only Session.Cancel, Conn.Terminate and
// Conn.Between are called from elsewhere.
//
// Framing is done here and not by a library, because a server must not take memory for a length
// that a client merely announced, must answer minor versions it has never heard of, and must run
// Bind/Execute/Sync without allocating.
//
// Source of the rules: PostgreSQL documentation, chapter "Frontend/Backend Protocol", and the
// behaviour of PostgreSQL 15 (18 for protocol 3.2).
package pgwire
