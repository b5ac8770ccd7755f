// Package clustertest runs clusters as real processes on one machine, through a proxy between every
// follower and what it follows, breaks something, and looks whether the cluster kept its word: what
// was acknowledged is on every node exactly once, what readers saw was always a prefix of it and never
// less than before, and in the end all nodes are identical, page by page, without help.
//
// A cluster is one whose leader is set by configuration, or an elected one, which appoints its leader: there a network stands
// between all nodes, clients look for the leader by themselves, and at the end checkers hold everything that
// clients were told and that nodes said of themselves against what is there.
//
// The package has tests only; they are named after the failures of the design's catalogue. `go test`
// runs one of each kind; with the build tag soak random faults follow each other for as long as
// CLUSTERTEST_TIME says.
package clustertest
