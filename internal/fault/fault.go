// Package fault names the points where a crash or an I/O error is most telling, so that tests can
// have one happen exactly there. Without the build tag "failpoints" every call is an empty function
// that the compiler removes: a released binary has no way to be told to fail.
//
// With the tag, SKEIN_FAULT holds a comma-separated list of
//
//	point=action:n     on the n-th time (from 1; 0: every time) that the point is passed, "kill" ends the process as
//	                   kill -9 would, and "eio", "enospc" and "short" make the operation there fail
//	point=hang:FILE    whoever passes the point waits for as long as there is such a file
package fault
