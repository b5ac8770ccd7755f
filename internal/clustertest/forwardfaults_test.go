package clustertest

import (
	"flag"
	"path/filepath"
	"strings"
	"testing"

	"skein/internal/clustertest/proxy"
	"skein/internal/nodetest"
	"skein/internal/pgscript"
)

var update = flag.Bool("update", false, "rewrite what the scripts in testdata expect")

// scripted is a cluster to which a script does something. The clients of the script are at one follower, which stays one unless the leader
// is killed.
type scripted struct {
	*elected
	at   *member
	dead *member
	hear func()
}

// Conversations with a follower in testdata/forwarding, while its leader changes or its connection to it breaks. Besides those of pgscript
// there are the lines:
//
//	switchover         another node than the clients' leads from now on
//	kill               the leader is killed, and another node leads; revive: it is back
//	cut                all connections between the clients' node and the leader are reset
//	mute               nothing that the leader sends arrives at the clients' node; hear: from now on it does again
//	at leader WANT SQL waits until SQL gives this at the leader
func TestForward_Faults(t *testing.T) {
	files, err := filepath.Glob("testdata/forwarding/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	e := newElected(t, 3, "ANY 1 (*)")
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			s := &scripted{elected: e, at: e.other(e.lead())}
			e.leader.query("CREATE DATABASE " + name)
			s.at.await("SELECT count(*) FROM pg_database WHERE datname = '"+name+"'", "1")
			pgscript.Play(t, file, pgscript.Options{
				Address:    func(string) string { return s.at.address },
				Parameters: map[string]string{"user": "skein", "database": name},
				Commands:   s.commands(name),
				Hide:       ofChance,
				Blur:       withoutReason,
				Update:     *update,
			})
			e.network.Heal()
			e.caughtUp()
		})
	}
	e.verify()
}

// ofChance says which lines depend on who was elected, or are not known beforehand.
func ofChance(line string) bool {
	return strings.HasPrefix(line, "ParameterStatus skein.last_commit=") || strings.HasPrefix(line, "ParameterStatus in_hot_standby=")
}

// withoutReason leaves out how a connection ended.
func withoutReason(line string) string {
	const ended = "the connection to the leader ended"
	if before, _, found := strings.Cut(line, ended); found {
		return before + ended
	}
	return line
}

func (s *scripted) commands(database string) map[string]func(*pgscript.Script, []string) {
	return map[string]func(*pgscript.Script, []string){
		"switchover": func(*pgscript.Script, []string) {
			to := s.third()
			nodetest.Await(s.t, to.name+" leads", func() error {
				if s.lead() == to {
					return nil
				}
				_, err := to.ask("SELECT skein_switchover('" + to.name + "')")
				return err
			})
			s.caughtUp()
		},
		"kill": func(*pgscript.Script, []string) {
			s.dead = s.lead()
			s.dead.Kill()
			s.lead()
		},
		"revive": func(*pgscript.Script, []string) {
			s.dead.start()
			s.caughtUp()
		},
		"cut": func(*pgscript.Script, []string) {
			s.network.Cut(proxy.Between(s.at.name, s.leader.name, proxy.Everything)...)
		},
		"mute": func(*pgscript.Script, []string) {
			s.hear = s.network.Drop(proxy.Route{From: s.lead().name, To: s.at.name})
		},
		"hear": func(*pgscript.Script, []string) { s.hear() },
		"at": func(_ *pgscript.Script, words []string) {
			s.leader.awaitIn(database, strings.Join(words[2:], " "), words[1])
		},
	}
}

// third is the node that neither leads nor has the clients.
func (s *scripted) third() *member {
	leader := s.lead()
	for _, m := range s.others(leader) {
		if m != s.at {
			return m
		}
	}
	s.t.Fatal("there is no third node")
	return nil
}
