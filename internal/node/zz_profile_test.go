package node

import (
	"os"
	osexec "os/exec"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestZZProfile(t *testing.T) {
	leader := runMember(t, t.TempDir(), "a", "")
	port := leader.PGAddr().String()[strings.LastIndex(leader.PGAddr().String(), ":")+1:]
	env := append(os.Environ(), "PGHOST=127.0.0.1", "PGPORT="+port, "PGUSER=skein", "PGDATABASE=skein", "PGOPTIONS="+os.Getenv("ZZOPT"))
	run := func(args ...string) {
		c := osexec.Command("/usr/lib/postgresql/15/bin/pgbench", args...)
		c.Env = env
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatal(err, string(out))
		}
		for _, l := range strings.Split(string(out), "\n") {
			if strings.HasPrefix(l, "tps") {
				t.Log(args, l)
			}
		}
	}
	run("-i", "-q", "-s", "10")
	l := leader.connect(t)
	if os.Getenv("ZZF") != "" {
		f := runMember(t, t.TempDir(), "b", leader.PeerAddr().String())
		f.caughtUp(t, l)
		if os.Getenv("ZZF") == "sync" {
			exec_(t, l)
		}
	}
	c := os.Getenv("ZZC")
	out, _ := os.Create("/tmp/skein/cpu.prof")
	run("-n", "-f", "/tmp/skein/upd.sql", "-s", "10", "-M", "prepared", "-c", c, "-j", "2", "-T", "2")
	pprof.StartCPUProfile(out)
	run("-n", "-f", "/tmp/skein/upd.sql", "-s", "10", "-M", "prepared", "-c", c, "-j", "2", "-T", "6")
	pprof.StopCPUProfile()
	out.Close()
}

func exec_(t *testing.T, l *pgx.Conn) {
	exec(t, l, "ALTER SYSTEM SET synchronous_standby_names = 'b'")
}
