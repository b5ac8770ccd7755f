package main

import (
	"slices"
	"testing"

	"github.com/alecthomas/kong"
)

// An order is given on the command line: nobody accepts a loss by a variable that somebody has set once.
func TestOrdersDoNotComeFromTheEnvironment(t *testing.T) {
	parser, err := kong.New(&commands{}, options()...)
	if err != nil {
		t.Fatal(err)
	}
	where := []string{"url", "dir", "help"}
	for _, command := range parser.Model.Leaves(true) {
		top := command
		for top.Parent.Type == kong.CommandNode {
			top = top.Parent
		}
		if !slices.Contains([]string{"failover", "switchover", "config", "remove", "vault", "status", "history", "members"}, top.Name) {
			continue
		}
		for _, f := range command.Flags {
			if len(f.Envs) > 0 && !slices.Contains(where, f.Name) {
				t.Errorf("%s --%s is taken from %v", command.Path(), f.Name, f.Envs)
			}
		}
	}
}
