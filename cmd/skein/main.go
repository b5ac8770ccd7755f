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

	"skein/internal/shell"
)

type commands struct {
	Serve   serveCommand   `cmd:"" help:"Run one node."`
	Demo    demoCommand    `cmd:"" help:"Run a cluster on this machine, ready in seconds."`
	SQL     sqlCommand     `cmd:"" name:"sql" help:"Type SQL against any node; a small shell for machines without psql."`
	Verify  verifyCommand  `cmd:"" help:"Read every page on every node and compare them; exits with 1 when something is wrong."`
	Version versionCommand `cmd:"" help:"Show the version."`
}

func main() {
	parser := kong.Parse(&commands{},
		kong.Name("skein"),
		kong.Description("A replicated SQL database: SQLite runs the SQL, PostgreSQL's clients connect to it.\n\nStart with `skein demo`."),
		kong.UsageOnError(),
		kong.DefaultEnvars("SKEIN"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(context.Background(), (*context.Context)(nil)),
	)
	err := parser.Run()
	if err == nil {
		return
	}
	if !errors.Is(err, shell.ErrFailed) { // the shell has shown it
		fmt.Fprintln(os.Stderr, "skein:", err)
	}
	os.Exit(1)
}
