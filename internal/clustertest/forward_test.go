package clustertest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"skein/internal/pgscript"
)

// played are the engine's own scripts that say nothing of a node's inside. What a leader answers to them is what a follower must answer.
var played = []string{
	"advisory", "constraints", "copy", "cursors", "ddl", "extended", "idle", "readwrite", "savepoints", "settings", "temporary", "transactions",
}

// Every conversation goes on a follower as it does on the leader, word by word.
func TestForward_TheSameConversations(t *testing.T) {
	e := newElected(t, 3, "ANY 1 (*)")
	leader := e.lead()
	for _, m := range []*member{leader, e.other(leader)} {
		place := "leader"
		if m != leader {
			place = "follower"
		}
		for i, name := range played {
			t.Run(place+"/"+name, func(t *testing.T) {
				database := fmt.Sprintf("%s%d", place, i)
				leader.query("CREATE DATABASE " + database)
				m.await("SELECT count(*) FROM pg_database WHERE datname = '"+database+"'", "1")
				play(t, name, m.address, database)
			})
		}
	}
}

// play has one of the engine's scripts spoken with whoever is at an address.
func play(t *testing.T, name, address, database string) {
	t.Helper()
	pgscript.Play(t, filepath.Join("../engine/testdata", name+".txt"), pgscript.Options{
		Address:    func(string) string { return address },
		Parameters: map[string]string{"user": "skein", "database": database, "skein.causality_key": database},
		Commands: map[string]func(*pgscript.Script, []string){
			"running": func(*pgscript.Script, []string) {}, // it is cancelled until it has run
			"queued":  untilSeveralQueue,
			"close":   func(s *pgscript.Script, words []string) { s.Drop(words[0]) },
		},
		Hide: func(line string) bool { return strings.HasPrefix(line, "ParameterStatus skein.last_commit=") },
	})
}

// untilSeveralQueue ends a script where the order of those who wait matters: who waits is not to be seen from outside. One that waits may
// as well come later.
func untilSeveralQueue(s *pgscript.Script, words []string) {
	if words[0] != "1" {
		s.End()
	}
}
