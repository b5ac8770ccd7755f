//go:build !soak

package clustertest

// long says that tests may take their time.
const long = false
