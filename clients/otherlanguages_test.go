package clients_test

import (
	"os"
	"os/exec"
	"testing"
)

const (
	python = "/usr/bin/python3" // Debian's, which sees Debian's packages
	jar    = "/usr/share/java/postgresql.jar"
)

// The checks of `clients/run` pass on the leader and on a node that follows it, and drivers that know both find the one they ask for.

func TestPsycopgAtAnyNode(t *testing.T) {
	c := threeNodes(t)
	if err := exec.Command(python, "-c", "import psycopg").Run(); err != nil {
		t.Skip("psycopg 3 is not installed (Debian: python3-psycopg)")
	}
	for name, n := range map[string]*node{"leader": c.leader, "follower": c.follower} {
		t.Run(name, func(t *testing.T) { run(t, "", python, "psycopg3/check.py", n.url) })
	}
	t.Run("hosts", func(t *testing.T) { run(t, "", python, "psycopg3/hosts.py", c.leader.host(), c.follower.host()) })
}

func TestPgJDBCAtAnyNode(t *testing.T) {
	c := threeNodes(t)
	if _, err := os.Stat(jar); err != nil {
		t.Skip("pgJDBC is not installed (Debian: libpostgresql-jdbc-java)")
	}
	if _, err := exec.LookPath("javac"); err != nil {
		t.Skip("there is no JDK (Debian: default-jdk-headless)")
	}
	for name, n := range map[string]*node{"leader": c.leader, "follower": c.follower} {
		t.Run(name, func(t *testing.T) {
			run(t, "", "java", "-cp", jar, "pgjdbc/Check.java", "jdbc:postgresql://"+n.host()+"/skein?user=skein")
		})
	}
	t.Run("hosts", func(t *testing.T) {
		run(t, "", "java", "-cp", jar, "pgjdbc/Hosts.java", c.leader.host(), c.follower.host())
	})
}
