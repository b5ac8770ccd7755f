// Package failover decides: who leads, who may be promoted, whose acknowledgements count. It is pure: no
// goroutine, clock, disk or socket, and no result that depends on the order of a map.
//
// Its nouns: a State is what the cluster has agreed on, committed by the control plane, one version after
// the other. A Report is what one node says of itself. Next, which only the coordinator asks, gives the
// State that should follow. DutyOf, which every node asks for itself, gives what it has to do under a
// State. Everything that happens in a failover is a new State: nodes see it, carry it out, and report.
//
//	State ──DutyOf──▶ nodes: promise, lead, follow ──Report──▶ coordinator: Next ──▶ next State
//
// A node promises before it acts: under a State of epoch e it does nothing before it has durably promised
// e, from when on it takes no entry, sends no acknowledgement and leads nothing of a lower epoch. A report
// with that promise is a sealed answer: its position holds everything that the node ever acknowledged.
//
// What makes a promotion safe is the list of Rules in a State, each a way of acknowledging that some
// commit may have been acknowledged by. A leader counts acknowledgements by the newest rule only. A promotion
// needs answers that satisfy every rule in the list. A rule leaves the list when everything that it
// could have acknowledged is acknowledged by the newest one as well. So changing the sync set, degrading, coming back
// from that and electing a leader are the same step: append a rule, wait until it is settled, drop
// those before it. The argument is in docs/ARCHITECTURE.md, "Safety".
package failover
