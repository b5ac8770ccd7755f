package main

import (
	"context"
	"os"
	"os/signal"

	"skein/internal/console"
)

type vaultCommand struct {
	List  listVaultCommand  `cmd:"" help:"List what this node had and its cluster had not, when it joined again."`
	Show  showVaultCommand  `cmd:"" help:"Print lost transactions as SQL, with the rows that they found."`
	Apply applyVaultCommand `cmd:"" help:"Apply lost transactions to the databases as they are now, after showing what contradicts them."`
}

// vaultFlags name a node's directory, on this machine.
type vaultFlags struct {
	Dir string `required:"" type:"existingdir" help:"Directory of the node."`
}

type listVaultCommand struct {
	vaultFlags
	JSON bool `env:"-" name:"json" help:"For programs."`
}

func (c *listVaultCommand) Run() error {
	return console.ListVault(clusterFlags{}.options(c.JSON), console.VaultOptions{Dir: c.Dir})
}

// chosenFlags name transactions.
type chosenFlags struct {
	Tail     string   `arg:"" optional:"" help:"Name of a tail as skein vault list has it, or how it begins. Needless where there is only one."`
	Database string   `env:"-" placeholder:"NAME" help:"Only those of this database."`
	Entry    []string `env:"-" placeholder:"LSN" help:"Only this entry, such as 0/1A2B; may be given again."`
}

type showVaultCommand struct {
	vaultFlags
	chosenFlags
	URL  string `name:"url" placeholder:"URL" help:"A cluster to ask for the names of the databases; without it they have numbers."`
	JSON bool   `env:"-" name:"json" help:"For programs."`
}

func (c *showVaultCommand) Run(ctx context.Context) error {
	return console.ShowVault(ctx, clusterFlags{c.URL}.options(c.JSON), console.VaultOptions{Dir: c.Dir, Tail: c.Tail, Database: c.Database, Entries: c.Entry})
}

type applyVaultCommand struct {
	clusterFlags
	vaultFlags
	chosenFlags
	DryRun bool `env:"-" help:"Only show what would come of it."`
	Force  bool `env:"-" help:"Apply also what contradicts the database as it is now; without it that is left out."`
	Yes    bool `env:"-" short:"y" help:"Do not ask."`
}

func (c *applyVaultCommand) Run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	return console.ApplyVault(ctx, c.options(false), console.VaultOptions{
		Dir: c.Dir, Tail: c.Tail, Database: c.Database, Entries: c.Entry, DryRun: c.DryRun, Force: c.Force, Yes: c.Yes,
	})
}
