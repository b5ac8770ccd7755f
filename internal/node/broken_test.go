package node

import (
	"testing"

	"skein/internal/commit"
	"skein/internal/history"
)

// T6, G10: what was shown once followers had it is taken back only if an epoch since has begun without proof.
func TestLossesAreExplained(t *testing.T) {
	for _, c := range []struct {
		name   string
		level  commit.Level
		losses []history.Epoch
		want   bool
	}{
		{"nobody has accepted a loss", commit.On, nil, false},
		{"a loss of before", commit.On, []history.Epoch{2, 3}, false},
		{"the next epoch began without proof", commit.On, []history.Epoch{2, 4}, true},
		{"followers were not waited for", commit.Local, nil, true},
		{"or only until they had received it", commit.RemoteWrite, nil, true},
		{"waited for longer", commit.RemoteApply, nil, false},
	} {
		if got := explained(c.level, 3, c.losses); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
