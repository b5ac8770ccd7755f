package commit

import (
	"fmt"
	"strings"
)

// Level says what a transaction's client waits for. The names and their order are those of
// PostgreSQL's synchronous_commit.
type Level uint8

// The levels, from the weakest on. Those above Local mean Local as long as no standby is named.
const (
	Off         Level = iota // appended in memory
	Local                    // flushed on the leader
	RemoteWrite              // and received by enough followers
	On                       // and flushed by enough followers
	RemoteApply              // and visible to readers on enough followers
)

var levelNames = [...]string{"off", "local", "remote_write", "on", "remote_apply"}

// String gives PostgreSQL's spelling.
func (l Level) String() string { return levelNames[l] }

// ParseLevel reads a value of synchronous_commit, PostgreSQL's spellings of on and off too.
func ParseLevel(s string) (Level, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	switch s {
	case "true", "yes", "1":
		return On, nil
	case "false", "no", "0":
		return Off, nil
	}
	for l, name := range levelNames {
		if s == name {
			return Level(l), nil
		}
	}
	return Off, fmt.Errorf("not a level of synchronous_commit: %q; there are off, local, remote_write, on and remote_apply", s)
}
