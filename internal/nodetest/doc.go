// Package nodetest runs nodes as processes of their own, with clients that note what they were
// promised, for the tests that break nodes and clusters. Only tests import it.
//
// Its nouns: a Node is a running `skein serve`; a Ledger is what clients know, which outlives every node.
// Neither waits for a time: they wait for a condition, and fail only when it has not come true for so long
// that it never will.
package nodetest
