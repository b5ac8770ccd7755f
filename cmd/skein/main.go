// Command skein is the whole product: a node, a cluster to try out, and a shell.
//
// Each subcommand has a file of its own that turns flags, environment variables and defaults into
// the options of the package that does the work.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	_ "time/tzdata" // hosts without zone files

	"github.com/alecthomas/kong"

	"skein/internal/console"
	"skein/internal/shell"
)

type commands struct {
	Serve  serveCommand  `cmd:"" help:"Run one node."`
	Router routerCommand `cmd:"" help:"Run one address in front of a cluster, without data: writes go to the leader, reads to the followers."`
	Demo   demoCommand   `cmd:"" help:"Run a cluster on this machine, ready in seconds."`
	SQL    sqlCommand    `cmd:"" name:"sql" help:"Type SQL against any node; a small shell for machines without psql."`

	Status     statusCommand     `cmd:"" help:"Show how the cluster stands: exits with 0 when all is well, 1 when something is wrong, 2 when that cannot be told."`
	Members    membersCommand    `cmd:"" help:"List the nodes of the cluster."`
	History    historyCommand    `cmd:"" help:"Show every election, promotion, switchover and change of members, with its reason."`
	Switchover switchoverCommand `cmd:"" help:"Have another node lead, in order: transactions end first, nothing is lost."`
	Failover   failoverCommand   `cmd:"" help:"Promote a node although the leader cannot hand over."`
	Config     configCommand     `cmd:"" help:"Show or change settings of the cluster and of its nodes."`
	Remove     removeCommand     `cmd:"" help:"Have a node leave the cluster for good."`
	Vault      vaultCommand      `cmd:"" help:"See and bring back what a node had and its cluster had not."`
	Gameday    gamedayCommand    `cmd:"" help:"Break a cluster on purpose, round after round, and report what its clients notice."`
	Verify     verifyCommand     `cmd:"" help:"Read every page on every node and compare them; exits with 1 when something is wrong."`
	Version    versionCommand    `cmd:"" help:"Show the version."`
}

func main() {
	parser := kong.Parse(&commands{}, options()...)
	err := parser.Run()
	switch {
	case err == nil:
		return
	case errors.Is(err, shell.ErrFailed), errors.Is(err, console.ErrProblem): // has been shown
	case errors.Is(err, console.ErrUnknown): // so has that
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "skein:", err)
	}
	os.Exit(1)
}

// options of the command line. Every flag has an environment variable but those of single orders: these are given each time.
func options() []kong.Option {
	return []kong.Option{
		kong.Name("skein"),
		kong.Description("A replicated SQL database: SQLite runs the SQL, PostgreSQL's clients connect to it.\n\nStart with `skein demo`."),
		kong.UsageOnError(),
		kong.DefaultEnvars("SKEIN"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(context.Background(), (*context.Context)(nil)),
	}
}
