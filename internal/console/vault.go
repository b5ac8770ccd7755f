package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/history"
	"skein/internal/shell"
	"skein/internal/vault"
)

// VaultOptions name a tail in the vault of a node, which is read from its directory; the node may run.
type VaultOptions struct {
	Dir      string // of the node
	Tail     string // name, or the beginning of one; "": the only one
	Database string // name or number; "": all
	Entries  []string
	DryRun   bool
	Force    bool // apply what contradicts the database as it is now, too
	Yes      bool
}

const vaultTime = "2006-01-02 15:04:05.000"

// ListVault shows what a node had and its cluster had not.
func ListVault(options Options, v VaultOptions) error {
	tails, err := vault.List(filepath.Join(v.Dir, "vault"))
	if err != nil {
		return err
	}
	if options.JSON {
		list := []map[string]any{}
		for _, t := range tails {
			list = append(list, map[string]any{
				"tail": t.Name(), "epoch": t.Epoch, "first_lsn": t.From.PgLSN(), "last_lsn": t.To.PgLSN(), "transactions": t.Transactions,
				"first": t.First, "last": t.Last, "bytes": t.Bytes, "missing": t.Missing,
			})
		}
		return writeJSON(options.Out, list)
	}
	if len(tails) == 0 {
		_, err := fmt.Fprintln(options.Out, "The vault is empty: this node never had anything that its cluster had not.")
		return err
	}
	rows := [][]string{{"TAIL", "EPOCH", "FROM", "TO", "TRANSACTIONS", "FIRST", "LAST", "SIZE", ""}}
	for _, t := range tails {
		rows = append(rows, []string{
			t.Name(), strconv.FormatUint(uint64(t.Epoch), 10), t.From.PgLSN(), t.To.PgLSN(), strconv.FormatInt(t.Transactions, 10),
			clock(t.First), clock(t.Last), size(t.Bytes), t.Missing,
		})
	}
	_, err = io.WriteString(options.Out, options.style().table(rows, map[int]bool{1: true, 4: true, 7: true}, func(int) string { return "" }))
	return err
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "?"
	}
	return t.Local().Format(vaultTime)
}

func size(n int64) string {
	if n < 10_000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	if n < 10_000_000 {
		return strconv.FormatInt(n/1000, 10) + " kB"
	}
	return strconv.FormatInt(n/1_000_000, 10) + " MB"
}

// open finds a tail by its name and opens it.
func (v VaultOptions) open() (*vault.Tail, error) {
	dir := filepath.Join(v.Dir, "vault")
	tails, err := vault.List(dir)
	if err != nil {
		return nil, err
	}
	var found, names []string
	for _, t := range tails {
		names = append(names, "  "+t.Name())
		if strings.HasPrefix(t.Name(), v.Tail) {
			found = append(found, t.Path)
		}
	}
	switch {
	case len(tails) == 0:
		return nil, fmt.Errorf("there is nothing in %s", dir)
	case len(found) == 0:
		return nil, fmt.Errorf("there is no tail %q; there are\n%s", v.Tail, strings.Join(names, "\n"))
	case len(found) > 1:
		return nil, fmt.Errorf("say which tail:\n%s", strings.Join(names, "\n"))
	}
	return vault.Open(found[0], "")
}

// entries are those that were asked for; nil is all.
func (v VaultOptions) entries() (map[history.LSN]bool, error) {
	if len(v.Entries) == 0 {
		return nil, nil
	}
	chosen := map[history.LSN]bool{}
	for _, text := range v.Entries {
		lsn, err := history.ParseLSN(text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		chosen[lsn] = true
	}
	return chosen, nil
}

// chooses says whether a transaction is one of those that were asked for.
func (v VaultOptions) chooses(names map[history.DatabaseID]string, entries map[history.LSN]bool) func(*vault.Transaction) bool {
	return func(x *vault.Transaction) bool {
		name := names[x.Database]
		return (entries == nil || entries[x.LSN]) && (v.Database == "" || v.Database == name || v.Database == strconv.FormatUint(uint64(x.Database), 10))
	}
}

// ShowVault prints the transactions of a tail as SQL, with the rows that they found in comments.
func ShowVault(ctx context.Context, options Options, v VaultOptions) (err error) {
	t, err := v.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	entries, err := v.entries()
	if err != nil {
		return err
	}
	names := map[history.DatabaseID]string{}
	if options.ConnString != "" {
		if names, err = databaseNames(ctx, options.ConnString); err != nil {
			return err
		}
	}
	names[history.SystemDatabase] = "(system)"
	chosen := v.chooses(names, entries)
	if options.JSON {
		return showJSON(options.Out, t, names, chosen)
	}
	if t.Missing != "" {
		fmt.Fprintf(options.Out, "-- not everything can be shown: %s\n\n", t.Missing)
	}
	return t.Each(func(x *vault.Transaction) error {
		if !chosen(x) {
			return nil
		}
		_, err := io.WriteString(options.Out, transaction(x, names))
		return err
	})
}

func nameOr(names map[history.DatabaseID]string, id history.DatabaseID) string {
	if name := names[id]; name != "" {
		return name
	}
	return fmt.Sprintf("number %d", id)
}

// transaction is one as SQL.
func transaction(x *vault.Transaction, names map[history.DatabaseID]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "-- entry %s of epoch %d, committed %s, database %s\n", x.LSN.PgLSN(), x.Epoch, clock(x.Time), nameOr(names, x.Database))
	for _, d := range x.DDL {
		if d.Before != "" {
			b.WriteString("-- was: " + strings.ReplaceAll(d.Before, "\n", "\n--      ") + "\n")
		}
		b.WriteString(d.SQL() + ";\n")
	}
	for _, c := range x.Changes {
		if c.Before != nil {
			b.WriteString("-- was: " + row(c.Table, c.Before) + "\n")
		}
		b.WriteString(c.SQL() + ";\n")
	}
	for _, u := range x.Unknown {
		b.WriteString("-- not known: " + strings.ReplaceAll(u, "\n", " ") + "\n")
	}
	return b.String() + "\n"
}

func row(t *vault.Table, r *vault.Row) string {
	var cells []string
	for i, v := range r.Values {
		if v.Kind == vault.Missing {
			continue
		}
		name := strconv.Itoa(i + 1)
		if i < len(t.Columns) {
			name = t.Columns[i].Name
		}
		cells = append(cells, name+" = "+v.SQL())
	}
	return strings.ReplaceAll(strings.Join(cells, ", "), "\n", " ")
}

// lost is a transaction in JSON. Values are SQL literals.
type lost struct {
	LSN      string       `json:"lsn"`
	Epoch    uint64       `json:"epoch"`
	Time     time.Time    `json:"time"`
	Database string       `json:"database"`
	DDL      []string     `json:"ddl,omitempty"`
	Changes  []lostChange `json:"changes,omitempty"`
	Unknown  []string     `json:"unknown,omitempty"`
}

type lostChange struct {
	Kind   string            `json:"kind"`
	Table  string            `json:"table"`
	Before map[string]string `json:"before,omitempty"`
	After  map[string]string `json:"after,omitempty"`
	SQL    string            `json:"sql"`
}

func showJSON(out io.Writer, t *vault.Tail, names map[history.DatabaseID]string, chosen func(*vault.Transaction) bool) error {
	list := []lost{}
	err := t.Each(func(x *vault.Transaction) error {
		if !chosen(x) {
			return nil
		}
		l := lost{LSN: x.LSN.PgLSN(), Epoch: uint64(x.Epoch), Time: x.Time, Database: nameOr(names, x.Database), Unknown: x.Unknown}
		for _, d := range x.DDL {
			l.DDL = append(l.DDL, d.SQL())
		}
		for _, c := range x.Changes {
			l.Changes = append(l.Changes, lostChange{c.Kind(), c.Table.Name, literals(c.Table, c.Before), literals(c.Table, c.After), c.SQL()})
		}
		list = append(list, l)
		return nil
	})
	if err != nil {
		return err
	}
	return writeJSON(out, list)
}

func literals(t *vault.Table, r *vault.Row) map[string]string {
	if r == nil {
		return nil
	}
	all := map[string]string{}
	for i, v := range r.Values {
		if i < len(t.Columns) && v.Kind != vault.Missing {
			all[t.Columns[i].Name] = v.SQL()
		}
	}
	return all
}

// ApplyVault brings a tail's changes into the databases as they are now, on the node that leads. It first shows what
// contradicts them, and on a terminal asks. What conflicts is left out, unless v.Force says otherwise.
func ApplyVault(ctx context.Context, options Options, v VaultOptions) (err error) {
	t, err := v.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	entries, err := v.entries()
	if err != nil {
		return err
	}
	names, err := databaseNames(ctx, options.ConnString)
	if err != nil {
		return err
	}
	chosen := v.chooses(names, entries)
	ids, err := databasesOf(t, chosen)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return errors.New("no transaction of the tail is one of those that were asked for")
	}
	o := &order{Options: options}
	for _, id := range ids {
		if id == history.SystemDatabase {
			o.say("Roles, databases and settings are not applied; skein vault show has what was lost of them.")
			continue
		}
		if names[id] == "" {
			o.say("A database that was changed, number %d, is not there any more.", id)
			continue
		}
		if err := o.apply(ctx, t, id, names[id], v, chosen); err != nil {
			return err
		}
	}
	return nil
}

// databasesOf lists the databases that the chosen transactions have changed.
func databasesOf(t *vault.Tail, chosen func(*vault.Transaction) bool) (ids []history.DatabaseID, err error) {
	err = t.Each(func(x *vault.Transaction) error {
		if chosen(x) && !slices.Contains(ids, x.Database) {
			ids = append(ids, x.Database)
		}
		return nil
	})
	slices.Sort(ids)
	return ids, err
}

// apply brings the changes into one database: first to see what comes of it, then in earnest.
func (o *order) apply(ctx context.Context, t *vault.Tail, id history.DatabaseID, name string, v VaultOptions, chosen func(*vault.Transaction) bool) error {
	session, err := connectLeader(ctx, o.ConnString, name)
	if err != nil {
		return err
	}
	defer func() { _ = session.conn.Close(context.WithoutCancel(ctx)) }()
	would, err := t.Apply(ctx, id, session, vault.ApplyOptions{DryRun: true, Force: v.Force, Only: chosen, Report: func(f *vault.Finding) error {
		if f.Outcome == vault.Conflict || f.Outcome == vault.Forced {
			o.say("%s", conflict(f))
		}
		return nil
	}})
	if err != nil {
		return err
	}
	o.say("Database %s: %s.", name, counted(would, "would be "))
	if v.DryRun || would.Applied+would.Forced == 0 {
		return nil
	}
	if !v.Yes {
		if err := o.ask("Apply?"); err != nil {
			return err
		}
	}
	done, err := t.Apply(ctx, id, session, vault.ApplyOptions{Force: v.Force, Only: chosen})
	if err != nil {
		return err
	}
	o.say("Done: %s.", counted(done, ""))
	return nil
}

func counted(r vault.Result, would string) string {
	text := fmt.Sprintf("%d changes %sapplied, %d are there already, %d conflict", r.Applied, would, r.Already, r.Conflicts)
	if r.Forced > 0 {
		text += fmt.Sprintf(", %d %sapplied all the same", r.Forced, would)
	}
	return text
}

// conflict says what contradicts a change.
func conflict(f *vault.Finding) string {
	what := ""
	if f.Change != nil {
		what = f.Change.SQL()
	} else {
		what = f.DDL.SQL()
	}
	text := fmt.Sprintf("entry %s  %s\n    %s", f.LSN.PgLSN(), strings.ReplaceAll(what, "\n", " "), f.Why)
	if f.Present == nil || f.Change == nil {
		return text
	}
	var cells []string
	for i, c := range f.Change.Table.Columns {
		if i < len(f.Present) {
			value := "NULL"
			if f.Present[i] != nil {
				value = *f.Present[i]
			}
			cells = append(cells, c.Name+" = "+value)
		}
	}
	return text + "; it is now: " + strings.ReplaceAll(strings.Join(cells, ", "), "\n", " ")
}

// leaderSession is a connection to one database on the node that leads.
type leaderSession struct{ conn *pgconn.PgConn }

func connectLeader(ctx context.Context, connString, database string) (*leaderSession, error) {
	config, err := shell.ParseConfig(connString)
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = connectWait
	config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	if database != "" {
		config.Database = database
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("the node that leads is not among those that were named, or does not answer: %w", err)
	}
	return &leaderSession{conn}, nil
}

// Query runs one statement.
func (s *leaderSession) Query(ctx context.Context, sql string) ([][]*string, error) {
	results, err := s.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, plain(err)
	}
	var rows [][]*string
	for _, r := range results[len(results)-1].Rows {
		cells := make([]*string, len(r))
		for i, value := range r {
			if value != nil {
				cells[i] = new(string(value))
			}
		}
		rows = append(rows, cells)
	}
	return rows, nil
}

func databaseNames(ctx context.Context, connString string) (map[history.DatabaseID]string, error) {
	s, err := connectLeader(ctx, connString, "")
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.conn.Close(ctx) }()
	rows, err := s.Query(ctx, "SELECT id, name FROM skein_databases")
	if err != nil {
		return nil, err
	}
	names := map[history.DatabaseID]string{}
	for _, r := range rows {
		id, err := strconv.ParseUint(*r[0], 10, 32)
		if err != nil {
			return nil, errNotSkein
		}
		names[history.DatabaseID(id)] = *r[1]
	}
	return names, nil
}
