package console

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"skein/internal/overview"
	"skein/internal/sqlstate"
)

// shownSettings are those that belong to a cluster rather than to a session.
const shownSettings = `SELECT name, current_setting(name), source FROM pg_settings
WHERE name LIKE 'skein.%' OR name IN ('synchronous_standby_names', 'synchronous_commit', 'max_slot_wal_keep_size', 'idle_replication_slot_timeout') ORDER BY name`

// ShowConfig lists the settings of the cluster, or with node those of one member.
func ShowConfig(ctx context.Context, options Options, node string) error {
	c, err := newClient(options.ConnString)
	if err != nil {
		return err
	}
	defer c.close()
	o, err := c.overview(ctx)
	if err != nil {
		return err
	}
	rows := [][]string{{"SETTING", "VALUE", "FROM"}}
	if node != "" {
		rows, err = attributes(o, node)
		if err != nil {
			return err
		}
	} else {
		found, err := c.query(ctx, answerWait, shownSettings)
		if err != nil {
			return plain(err)
		}
		for _, r := range found {
			from := "set"
			if r[2] == "default" {
				from = "default"
			}
			rows = append(rows, []string{r[0], r[1], from})
		}
	}
	if options.JSON {
		values := map[string]string{}
		for _, r := range rows[1:] {
			values[r[0]] = r[1]
		}
		return writeJSON(options.Out, values)
	}
	_, err = fmt.Fprint(options.Out, options.style().table(rows, nil, func(int) string { return "" }))
	return err
}

func attributes(o overview.Overview, node string) ([][]string, error) {
	i := slices.IndexFunc(o.Members, func(m overview.Member) bool { return m.Name == node || string(m.ID) == node })
	if i < 0 {
		return nil, fmt.Errorf("there is no node %q", node)
	}
	m := o.Members[i]
	return [][]string{
		{"ATTRIBUTE", "VALUE"},
		{"priority", fmt.Sprint(m.Priority)},
		{"never_leader", onOff(m.NeverLeader)},
		{"hidden", onOff(m.Hidden)},
		{"delay", overview.Lasting(m.Delay)},
	}, nil
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// SetConfig changes one setting of the cluster, or with node an attribute of one member. Settings that live in the
// database are changed where it can be written: on the leader.
func SetConfig(ctx context.Context, options Options, name, value, node string) error {
	c, err := newClient(options.ConnString)
	if err != nil {
		return err
	}
	defer c.close()
	o, err := c.overview(ctx)
	if err != nil {
		return err
	}
	set := &order{client: c, Options: options, before: o}
	if node != "" {
		text, err := set.run(ctx, "SELECT skein_set_member($1, $2, $3)", node, name, value)
		if err == nil {
			set.say("%s", text)
		}
		return err
	}
	sql, err := set.alter(ctx, name, value)
	if err != nil {
		return err
	}
	_, err = c.query(ctx, orderWait, sql)
	if readOnly(err) {
		if err := set.toLeader(ctx); err != nil {
			return err
		}
		_, err = c.query(ctx, orderWait, sql)
	}
	if err != nil {
		return plain(err)
	}
	set.say("%s = %s", name, value)
	return nil
}

// alter is the statement that changes a setting. A name without its "skein." is taken for that if there is no other.
func (o *order) alter(ctx context.Context, name, value string) (string, error) {
	found, err := o.query(ctx, answerWait, "SELECT name FROM pg_settings WHERE lower(name) IN (lower($1), 'skein.' || lower($1)) ORDER BY length(name)", name)
	if err != nil {
		return "", plain(err)
	}
	if len(found) > 0 {
		name = found[0][0]
	}
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.") != "" {
		return "", fmt.Errorf("%q is no setting", name)
	}
	if strings.EqualFold(value, "default") {
		return "ALTER SYSTEM RESET " + name, nil
	}
	return "ALTER SYSTEM SET " + name + " = '" + strings.ReplaceAll(value, "'", "''") + "'", nil
}

func readOnly(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == string(sqlstate.ReadOnlyTransaction)
}

// toLeader connects to the member that can be written to.
func (o *order) toLeader(ctx context.Context) error {
	for _, m := range o.before.Members {
		if m.Role != overview.Leader || m.Address == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(m.Address); err == nil {
			return o.connectTo(ctx, m.Address)
		}
	}
	return errors.New("this setting is changed on the leader, and nobody leads: try again when somebody does")
}
