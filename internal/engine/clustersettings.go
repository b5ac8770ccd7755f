package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/commit"
	"skein/internal/dialect"
	"skein/internal/failover"
	"skein/internal/overview"
	"skein/internal/pgcatalog"
	"skein/internal/sqlstate"
)

// clusterSettings are what ALTER SYSTEM has set, checked, by name in lower case. They never change:
// a change makes others.
type clusterSettings struct{ values map[string]string }

// lookup gives a parameter's value outside of any session.
func (c *clusterSettings) lookup(name string) (string, bool) {
	if c != nil {
		if value, ok := c.values[name]; ok {
			return value, true
		}
	}
	if p := parameters[name]; p != nil {
		return p.value, true
	}
	return "", false
}

func (c *clusterSettings) get(name string) string {
	value, _ := c.lookup(name)
	return value
}

// node gives the settings that are not those of sessions, as Options.OnSettings promises.
func (c *clusterSettings) node() map[string]string {
	all := map[string]string{}
	for name, p := range parameters {
		if p.node {
			all[name] = inSmallest(c.get(name), p.kind)
		}
	}
	return all
}

// inSmallest turns seconds into milliseconds and megabytes into bytes. What is negative is no quantity.
func inSmallest(value, kind string) string {
	factor := map[string]int64{"s": 1000, "MB": 1 << 20}[kind]
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || factor == 0 || n < 0 {
		return value
	}
	return strconv.FormatInt(n*factor, 10)
}

// rule is the rule of acknowledging. What cannot be read was checked by another version; it asks for more
// than was meant rather than for less.
func (c *clusterSettings) rule() commit.SyncConfig {
	names, err := commit.ParseStandbyNames(c.get("synchronous_standby_names"))
	if err != nil {
		names, _ = commit.ParseStandbyNames("*")
	}
	return commit.SyncConfig{
		Names: names, Level: c.level(),
		Timeout: c.milliseconds("skein.sync_timeout"), Degrade: c.get("skein.on_sync_timeout") == "degrade",
	}
}

// level is the cluster's synchronous_commit.
func (c *clusterSettings) level() commit.Level {
	level, err := commit.ParseLevel(c.get("synchronous_commit"))
	if err != nil {
		return commit.On
	}
	return level
}

func (c *clusterSettings) milliseconds(name string) time.Duration {
	ms, _ := strconv.Atoi(c.get(name))
	return time.Duration(ms) * time.Millisecond
}

// scope says whose sessions a stored setting is for; "" means every database, every role. Both empty
// are ALTER SYSTEM's.
type scope struct{ database, role string }

// stored is a setting as ALTER DATABASE or ALTER ROLE gave it.
type stored struct{ name, value string }

// first is what a session began with.
type first struct{ value, source string }

// loadCluster reads what ALTER SYSTEM has set and puts it into effect. A leader reads its newest state,
// committed or not: the rule of acknowledging must be changeable when no follower acknowledges.
func (e *Engine) loadCluster(ctx context.Context) error {
	e.loading.Lock()
	defer e.loading.Unlock()
	values := map[string]string{}
	err := e.readSystem(ctx, 0, e.storage.Leads() != 0, func(c *conn) error {
		return c.query("SELECT name, value FROM settings WHERE database = '' AND role = ''", func(st *sqlite3.Stmt) {
			name := st.ColumnText(0)
			value, err := checked(name, st.ColumnText(1))
			if err != nil {
				e.options.Logger.Warn("a setting of ALTER SYSTEM is passed over", "name", name, "error", err)
				return
			}
			values[name] = value
		})
	})
	if err != nil {
		return fmt.Errorf("read cluster settings: %w", err)
	}
	if old := e.cluster.Load(); old != nil && maps.Equal(old.values, values) {
		return nil
	}
	now := &clusterSettings{values}
	e.cluster.Store(now)
	e.storage.Configure(now.rule())
	if e.options.OnSettings != nil {
		e.options.OnSettings(now.node())
	}
	return nil
}

// clusterSettings gives a new session what ALTER SYSTEM has set.
func (s *Session) clusterSettings() {
	s.settings.cluster = s.engine.cluster.Load()
	for name := range s.settings.cluster.values {
		s.applyToEnv(name, s.settings.get(name))
	}
}

// adopt takes up what ALTER SYSTEM, or a change of the node's role, has changed since the session's last
// message.
func (s *Session) adopt() {
	if now := s.following(); now != s.standby {
		s.standby = now
		s.applied("in_hot_standby")
	}
	now, old := s.engine.cluster.Load(), s.settings.cluster
	if now == old {
		return
	}
	s.settings.cluster = now
	for name := range parameters {
		if _, own := s.settings.values[name]; !own && old.get(name) != now.get(name) {
			s.applied(name)
		}
	}
}

// alterSystem takes effect when it is in the leader's log, and waits for the leader's disk alone.
func (s *Session) alterSystem(ctx context.Context, v *dialect.Variable) error {
	if self, _ := s.engine.role(s.user); !self.Superuser {
		return sqlstate.New(sqlstate.InsufficientPrivilege, "permission denied to set parameter %q", v.Name)
	}
	if v.Name != "all" && parameters[v.Name] == nil {
		return sqlstate.New(sqlstate.UndefinedObject, "unrecognized configuration parameter %q", v.Name)
	}
	if err := checkStored(v); err != nil {
		return err
	}
	if p := parameters[v.Name]; p != nil && p.agreed {
		return s.agree(ctx, p, v)
	}
	lsn, err := s.writeSystem(ctx, func(c *conn) error { return c.store(scope{}, v) })
	if err != nil {
		return err
	}
	if err := s.engine.loadCluster(context.WithoutCancel(ctx)); err != nil { // it is in the log, so that a cancel comes too late
		return err
	}
	_, err = s.reach(ctx, lsn, commit.Local)
	return err
}

// agreed gives a parameter that the cluster keeps outside of its databases.
func (e *Engine) agreed(p *parameter) string {
	if f := e.options.Failover; f != nil {
		if now := f.State(); now.Version > 0 {
			value, _ := overview.SettingValue(now.Settings, p.name)
			return value
		}
	}
	return p.value
}

// agree changes one of those, on any node and whether there is a leader or not.
func (s *Session) agree(ctx context.Context, p *parameter, v *dialect.Variable) error {
	value, _ := overview.SettingValue(failover.DefaultSettings(), p.name)
	if !v.Default {
		var err error
		if value, err = checked(v.Name, v.Value); err != nil {
			return err
		}
	}
	return pgcatalog.ChangeSetting(ctx, s.engine.options.Failover, s.user, p.name, value)
}

func (s *Session) alterDatabaseSetting(ctx context.Context, name string, v *dialect.Variable) error {
	d := s.engine.database(name)
	if d == nil {
		return sqlstate.New(sqlstate.InvalidDatabaseName, "database %q does not exist", name)
	}
	if self, _ := s.engine.role(s.user); !self.Superuser && d.Owner != s.user {
		return sqlstate.New(sqlstate.InsufficientPrivilege, "must be owner of database %s", name)
	}
	return s.storeSetting(ctx, scope{database: name}, v)
}

func (s *Session) alterRoleSetting(ctx context.Context, name, database string, v *dialect.Variable) error {
	if database != "" && s.engine.database(database) == nil {
		return sqlstate.New(sqlstate.InvalidDatabaseName, "database %q does not exist", database)
	}
	self, _ := s.engine.role(s.user)
	switch name {
	case "current_user", "session_user", "current_role":
		name = s.user
	case "":
		if !self.Superuser {
			return sqlstate.New(sqlstate.InsufficientPrivilege, "must be superuser to alter settings globally")
		}
		if database == "" {
			return sqlstate.New(sqlstate.FeatureNotSupported, "ALTER ROLE ALL without IN DATABASE is not supported").
				WithHint("Use ALTER SYSTEM SET, which is for every session too.")
		}
	}
	target, exists := s.engine.role(name)
	if !exists && name != "" {
		return sqlstate.New(sqlstate.UndefinedObject, "role %q does not exist", name)
	}
	if name != s.user && !self.Superuser && (!self.CreateRole || target.Superuser) {
		return sqlstate.New(sqlstate.InsufficientPrivilege, "permission denied to alter setting of role %q", name)
	}
	return s.storeSetting(ctx, scope{database, name}, v)
}

func (s *Session) storeSetting(ctx context.Context, at scope, v *dialect.Variable) error {
	if err := checkStored(v); err != nil {
		return err
	}
	if !v.Default {
		if _, err := checkedForSession(v.Name, v.Value); err != nil {
			return err
		}
	}
	return s.changeSystem(ctx, func(c *conn) error { return c.store(at, v) })
}

// checkStored checks a setting for sessions to come.
func checkStored(v *dialect.Variable) error {
	switch v.Name {
	case "all":
		return nil
	case "role", "session_authorization", "transaction_isolation", "transaction_read_only", "transaction_deferrable", "skein.transaction_token":
		return sqlstate.New(sqlstate.CantChangeRuntimeParam, "parameter %q cannot be changed", v.Name)
	}
	if v.Default {
		if parameters[v.Name] == nil && !strings.Contains(v.Name, ".") {
			return sqlstate.New(sqlstate.UndefinedObject, "unrecognized configuration parameter %q", v.Name)
		}
		return nil
	}
	_, err := checked(v.Name, v.Value)
	return err
}

// store writes, or with RESET removes, what a SET for later sessions says.
func (c *conn) store(at scope, v *dialect.Variable) error {
	switch {
	case v.Name == "all":
		return c.query("DELETE FROM settings WHERE database = ?1 AND role = ?2", nil, at.database, at.role)
	case v.Default:
		return c.query("DELETE FROM settings WHERE database = ?1 AND role = ?2 AND name = ?3", nil, at.database, at.role, v.Name)
	}
	return c.query("INSERT OR REPLACE INTO settings VALUES (?1, ?2, ?3, ?4)", nil, at.database, at.role, v.Name, v.Value)
}

// storedSettings gives a new session what is stored for it: the nearer scope goes over the wider one.
func (s *Session) storedSettings() {
	e := s.engine
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, from := range []struct {
		scope
		source string
	}{{scope{database: s.db.Name}, "database"}, {scope{role: s.user}, "user"}, {scope{s.db.Name, s.user}, "database user"}} {
		for _, st := range e.stored[from.scope] {
			value, err := checked(st.name, st.value)
			if err != nil {
				e.options.Logger.Warn("a stored setting is passed over", "name", st.name, "database", from.database, "role", from.role, "error", err)
				continue
			}
			s.begin(st.name, value, from.source)
		}
	}
}

// begin has the session begin with a setting.
func (s *Session) begin(name, value, source string) {
	s.startup[name] = first{value, source}
	s.settings.put(name, value)
	s.applyToEnv(name, value)
}

func (c cluster) StoredSettings() []pgcatalog.StoredSettings {
	e := c.s.engine
	e.catchUp()
	e.mu.RLock()
	defer e.mu.RUnlock()
	var all []pgcatalog.StoredSettings
	for at, list := range e.stored {
		row := pgcatalog.StoredSettings{Database: at.database, Role: at.role}
		for _, st := range list {
			row.Values = append(row.Values, st.name+"="+st.value)
		}
		all = append(all, row)
	}
	slices.SortFunc(all, func(a, b pgcatalog.StoredSettings) int {
		return strings.Compare(a.Database+"\x00"+a.Role, b.Database+"\x00"+b.Role)
	})
	return all
}
