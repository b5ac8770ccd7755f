// Package crashtest breaks a running node and looks whether it kept its word: kill -9 at the points
// that package fault names, errors of the disk, a full disk, and power cuts. Clients work meanwhile
// and note what they were promised; after every restart, which must need no help, all of it must be
// there, nothing twice, nothing that was refused, and the databases must be whole.
//
// The package has tests only. `go test` runs a short selection; with the build tag soak they go on for
// as long as CRASHTEST_TIME says, and with powercut they cut the power of a file system (as root).
package crashtest
