// Package vault keeps what a node had and its cluster had not, and shows it: the entries that a deposed
// leader, or a follower of one, had to give up when it joined again.
//
// A Tail is one file: the entries as they were in the log, and those pages from before them that are needed to say
// which rows they have changed. Keep writes it when the node gives the entries up, before anything of them is
// lost; List, Open and Transactions read it at any later time, on any machine; Apply brings the changes
// into a database as it is now, where nothing contradicts them.
//
// The rows are found without SQLite: b-tree pages before and after each transaction are decoded, and their cells compared by
// key. That a page is a leaf of which table was found by Keep, from the database that was still there. Nothing in a tail is
// believed: every number is checked, and what does not decode is said to be unknown.
package vault
