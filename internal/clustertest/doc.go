// Package clustertest runs clusters as real processes on one machine, through a proxy between every
// follower and what it follows, breaks something, and looks whether the cluster kept its word: what
// was acknowledged is on every node exactly once, what readers saw was always a prefix of it and never
// less than before, and in the end all nodes are identical, page by page, without help.
//
// The package has tests only; they are named after the failures of the design's catalogue. `go test`
// runs one of each kind; with the build tag soak random faults follow each other for as long as
// CLUSTERTEST_TIME says.
package clustertest
