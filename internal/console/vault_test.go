package console

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"skein/internal/history"
	"skein/internal/vault"
)

func text(s string) vault.Value { return vault.Value{Kind: vault.Text, Bytes: []byte(s)} }
func integer(n int64) vault.Value {
	return vault.Value{Kind: vault.Integer, Int: n}
}

var goose = &vault.Table{Name: "goose", Columns: []vault.Column{{Name: "id", Type: "int"}, {Name: "name", Type: "text"}}}

func TestLostTransactionsAreShownAsSQL(t *testing.T) {
	t.Setenv("TZ", "UTC")
	x := &vault.Transaction{
		Epoch: 3, LSN: 42, Time: time.Date(2026, 5, 1, 12, 0, 0, 123e6, time.Local), Database: 2,
		DDL: []vault.DDL{{Kind: "create", Type: "table", Name: "goose", After: "CREATE TABLE goose (id int, name text)"}, {Kind: "drop", Type: "table", Name: "duck", Before: "CREATE TABLE duck (\n  id int)"}},
		Changes: []vault.Change{
			{Table: goose, After: &vault.Row{Rowid: 1, Values: []vault.Value{integer(1), text("Åke's")}}},
			{Table: goose, Before: &vault.Row{Rowid: 2, Values: []vault.Value{integer(2), text("two\nlines")}}, After: &vault.Row{Rowid: 2, Values: []vault.Value{integer(2), {}}}},
			{Table: goose, Before: &vault.Row{Rowid: 3, Values: []vault.Value{integer(3), {Kind: vault.Missing}}}},
		},
		Unknown: []string{"page 7 was not kept"},
	}
	golden(t, "vault-show", transaction(x, map[history.DatabaseID]string{2: "skein"}))
	x.Database = 9
	if got := transaction(x, nil); !strings.Contains(got, "database number 9\n") {
		t.Error(got)
	}
}

func TestConflictsSayWhatIsThere(t *testing.T) {
	change := &vault.Change{Table: goose, After: &vault.Row{Rowid: 1, Values: []vault.Value{integer(1), text("Akka")}}}
	name := "Yksi"
	for _, test := range []struct {
		finding vault.Finding
		want    string
	}{
		{vault.Finding{LSN: 42, Change: change, Why: "there is a row with this key", Present: []*string{nil, &name}}, "there is a row with this key; it is now: id = NULL, name = Yksi"},
		{vault.Finding{LSN: 42, Change: change, Why: "the row is not there any more"}, "the row is not there any more"},
		{vault.Finding{LSN: 42, DDL: &vault.DDL{Kind: "drop", Type: "table", Name: "duck"}, Why: "it was dropped, and is there"}, "it was dropped, and is there"},
	} {
		got := conflict(&test.finding)
		if !strings.HasPrefix(got, "entry 0/2A  ") || !strings.HasSuffix(got, "\n    "+test.want) {
			t.Error(got)
		}
	}
	if got := counted(vault.Result{Applied: 1, Already: 2, Conflicts: 3, Forced: 4}, "would be "); got != "1 changes would be applied, 2 are there already, 3 conflict, 4 would be applied all the same" {
		t.Error(got)
	}
}

func TestTransactionsAreChosen(t *testing.T) {
	names := map[history.DatabaseID]string{2: "skein"}
	for _, test := range []struct {
		v    VaultOptions
		want bool
	}{
		{VaultOptions{}, true},
		{VaultOptions{Database: "skein"}, true},
		{VaultOptions{Database: "2"}, true},
		{VaultOptions{Database: "other"}, false},
		{VaultOptions{Entries: []string{"0/2A"}}, true},
		{VaultOptions{Entries: []string{"0/2B"}}, false},
		{VaultOptions{Entries: []string{"0/2B", "0/2A"}, Database: "skein"}, true},
	} {
		entries, err := test.v.entries()
		if err != nil || test.v.chooses(names, entries)(&vault.Transaction{LSN: 42, Database: 2}) != test.want {
			t.Errorf("%+v: %v, want %t", test.v, err, test.want)
		}
	}
	if _, err := (VaultOptions{Entries: []string{"42"}}).entries(); err == nil {
		t.Error("42 is taken for a position")
	}
}

func TestAnEmptyVault(t *testing.T) {
	var out bytes.Buffer
	v := VaultOptions{Dir: t.TempDir()}
	if err := ListVault(Options{Out: &out}, v); err != nil || !strings.HasPrefix(out.String(), "The vault is empty") {
		t.Errorf("%v %q", err, &out)
	}
	if err := ShowVault(t.Context(), Options{Out: &out}, v); err == nil || !strings.Contains(err.Error(), "there is nothing in") {
		t.Errorf("%v", err)
	}
}
