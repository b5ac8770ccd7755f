//go:build !failpoints

package fault

// Enabled says whether this binary can be told to fail.
const Enabled = false

// Hit passes a named point; the error, if any, is to be treated as the operation's own.
func Hit(string) error { return nil }
