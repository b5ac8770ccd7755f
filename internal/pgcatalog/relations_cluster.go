package pgcatalog

import (
	"strconv"
	"strings"

	"skein/internal/oid"
)

// clusterRelations describe what is outside one database: roles, databases, settings.
func clusterRelations() []relation {
	return []relation{
		{"pg_database", 1262, "oid oid, datname name, datdba oid, encoding int4, datlocprovider \"char\", datistemplate bool, datallowconn bool, datconnlimit int4, datfrozenxid xid, datminmxid xid, dattablespace oid, datcollate text, datctype text, daticulocale text, datcollversion text, datacl _aclitem", databaseRows},
		{"pg_tablespace", 1213, "oid oid, spcname name, spcowner oid, spcacl _aclitem, spcoptions _text", tablespaceRows},
		{"pg_authid", 1260, "oid oid, rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, rolcanlogin bool, rolreplication bool, rolbypassrls bool, rolconnlimit int4, rolpassword text, rolvaliduntil timestamptz", authidRows},
		{"pg_roles", 12002, "rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, rolcanlogin bool, rolreplication bool, rolconnlimit int4, rolpassword text, rolvaliduntil timestamptz, rolbypassrls bool, rolconfig _text, oid oid", rolesRows},
		{"pg_user", 12016, "usename name, usesysid oid, usecreatedb bool, usesuper bool, userepl bool, usebypassrls bool, passwd text, valuntil timestamptz, useconfig _text", userRows},
		{"pg_shadow", 12007, "usename name, usesysid oid, usecreatedb bool, usesuper bool, userepl bool, usebypassrls bool, passwd text, valuntil timestamptz, useconfig _text", userRows},
		{"pg_group", 12012, "groname name, grosysid oid, grolist _oid", nil},
		{"pg_db_role_setting", 2964, "setdatabase oid, setrole oid, setconfig _text", storedSettingsRows},
		{"pg_settings", 12110, "name text, setting text, unit text, category text, short_desc text, extra_desc text, context text, vartype text, source text, min_val text, max_val text, enumvals _text, boot_val text, reset_val text, sourcefile text, sourceline int4, pending_restart bool", settingsRows},
		{"pg_stat_database", 12268, "datid oid, datname name, numbackends int4, xact_commit int8, xact_rollback int8, blks_read int8, blks_hit int8, tup_returned int8, tup_fetched int8, tup_inserted int8, tup_updated int8, tup_deleted int8, conflicts int8, temp_files int8, temp_bytes int8, deadlocks int8, checksum_failures int8, checksum_last_failure timestamptz, blk_read_time float8, blk_write_time float8, session_time float8, active_time float8, idle_in_transaction_time float8, sessions int8, sessions_abandoned int8, sessions_fatal int8, sessions_killed int8, stats_reset timestamptz", statDatabaseRows},
		{"pg_stat_wal", 12277, "wal_records int8, wal_fpi int8, wal_bytes numeric, wal_buffers_full int8, wal_write int8, wal_sync int8, wal_write_time float8, wal_sync_time float8, stats_reset timestamptz", statWalRows},
		{"pg_stat_activity", 12224, "datid oid, datname name, pid int4, leader_pid int4, usesysid oid, usename name, application_name text, client_addr text, client_hostname text, client_port int4, backend_start timestamptz, xact_start timestamptz, query_start timestamptz, state_change timestamptz, wait_event_type text, wait_event text, state text, backend_xid xid, backend_xmin xid, query_id int8, query text, backend_type text", activityRows},
		{"skein_degradations", 12903, "began timestamptz, ended timestamptz, from_lsn pg_lsn, to_lsn pg_lsn, commits int8, reason text", degradationRows},
		{"skein_databases", 12906, "id int8, name text, owner text, bytes int8", numberedDatabaseRows},
		{"pg_timezone_names", 12128, "name text, abbrev text, utc_offset interval, is_dst bool", timezoneRows},
	}
}

// superuser is the role that owns the catalog where no superuser is known.
const superuser = "postgres"

// roles gives the cluster's roles, the bootstrap superuser first.
func (cat *catalog) roles() []Role {
	if c := cat.sess().Cluster(); c != nil {
		return c.Roles()
	}
	return nil
}

// bootstrapName is the role with OID 10: the first superuser.
func (cat *catalog) bootstrapName() string {
	for _, r := range cat.roles() {
		if r.Superuser {
			return r.Name
		}
	}
	return superuser
}

func (cat *catalog) roleOID(name string) oid.OID {
	if name == "" || name == cat.bootstrapName() {
		return bootstrapRole
	}
	return ObjectOID(KindRole, name)
}

func (cat *catalog) databases() []Database {
	var list []Database
	if c := cat.sess().Cluster(); c != nil {
		list = c.Databases()
	}
	for _, d := range list {
		if d.Name == cat.sess().Database() {
			return list
		}
	}
	// The database that one is connected to is there, whatever the cluster's list says.
	return append([]Database{{Name: cat.sess().Database()}}, list...)
}

func databaseRows(b *rowBuilder) {
	for _, d := range b.databases() {
		b.add(ObjectOID(KindDatabase, d.Name), d.Name, b.roleOID(d.Owner), 6, "c", false, true, -1, 0, 0, defaultTablespace,
			"C.UTF-8", "C.UTF-8", nil, nil, nil)
	}
}

// numberedDatabaseRows has the numbers by which the log and the files name databases.
func numberedDatabaseRows(b *rowBuilder) {
	c := b.sess().Cluster()
	if c == nil {
		return
	}
	for _, d := range c.Databases() {
		b.add(int64(d.ID), d.Name, or(d.Owner, b.bootstrapName()), c.DatabaseSize(d.Name))
	}
}

func tablespaceRows(b *rowBuilder) {
	b.add(defaultTablespace, "pg_default", bootstrapRole, nil, nil)
	b.add(1664, "pg_global", bootstrapRole, nil, nil)
}

func authidRows(b *rowBuilder) {
	for _, r := range b.roles() {
		b.add(b.roleOID(r.Name), r.Name, r.Superuser, true, r.CreateRole, r.CreateDB, r.Login, r.Superuser, r.Superuser, -1, nil, nil)
	}
}

func rolesRows(b *rowBuilder) {
	stored := b.storedByRole()
	for _, r := range b.roles() {
		b.add(r.Name, r.Superuser, true, r.CreateRole, r.CreateDB, r.Login, r.Superuser, -1, "********", nil, r.Superuser, stored[r.Name], b.roleOID(r.Name))
	}
	b.add("pg_database_owner", false, true, false, false, false, false, -1, "********", nil, false, nil, ownerRole)
}

func userRows(b *rowBuilder) {
	stored := b.storedByRole()
	for _, r := range b.roles() {
		if r.Login {
			b.add(r.Name, b.roleOID(r.Name), r.CreateDB, r.Superuser, r.Superuser, r.Superuser, "********", nil, stored[r.Name])
		}
	}
}

// roleName is pg_get_userbyid.
func (cat *catalog) roleName(o oid.OID) string {
	switch o {
	case bootstrapRole:
		return cat.bootstrapName()
	case ownerRole:
		return "pg_database_owner"
	}
	for _, r := range cat.roles() {
		if cat.roleOID(r.Name) == o {
			return r.Name
		}
	}
	return "unknown (OID=" + oidText(int64(o)) + ")"
}

func storedSettingsRows(b *rowBuilder) {
	c := b.sess().Cluster()
	if c == nil {
		return
	}
	for _, s := range c.StoredSettings() {
		database, role := oid.OID(0), oid.OID(0)
		if s.Database != "" {
			database = ObjectOID(KindDatabase, s.Database)
		}
		if s.Role != "" {
			role = b.roleOID(s.Role)
		}
		b.add(database, role, textArray(s.Values))
	}
}

// storedByRole gives the settings that a role has in every database, as an array literal; nil for none.
func (cat *catalog) storedByRole() map[string]any {
	stored := map[string]any{}
	if c := cat.sess().Cluster(); c != nil {
		for _, s := range c.StoredSettings() {
			if s.Database == "" {
				stored[s.Role] = textArray(s.Values)
			}
		}
	}
	return stored
}

func settingsRows(b *rowBuilder) {
	c := b.sess().Cluster()
	if c == nil {
		return
	}
	seen := map[string]bool{}
	for _, s := range c.Settings() {
		seen[strings.ToLower(s.Name)] = true
		var enum any
		if len(s.EnumValues) > 0 {
			enum = "{" + strings.Join(s.EnumValues, ",") + "}"
		}
		b.add(s.Name, s.Value, optional(s.Unit), or(s.Category, "Client Connection Defaults"), s.Description, nil, or(s.Context, "user"),
			or(s.Type, "string"), or(s.Source, "default"), nil, nil, enum, s.Default, or(s.Reset, s.Default), nil, nil, false)
	}
	for _, s := range presets {
		if !seen[s.name] {
			b.add(s.name, s.value, nil, "Preset Options", "", nil, "internal", s.typ, "default", nil, nil, nil, s.value, s.value, nil, nil, false)
		}
	}
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// presets are limits of PostgreSQL that drivers ask for and that no session has to know.
var presets = []struct{ name, value, typ string }{
	{"block_size", "8192", "integer"},
	{"max_function_args", "100", "integer"},
	{"max_identifier_length", "63", "integer"},
	{"max_index_keys", "32", "integer"},
	{"segment_size", "131072", "integer"},
	{"wal_block_size", "8192", "integer"},
	{"integer_datetimes", "on", "bool"},
	{"server_encoding", "UTF8", "string"},
	{"lc_collate", "C.UTF-8", "string"},
	{"lc_ctype", "C.UTF-8", "string"},
}

// statWalRows shows the log: an entry for each transaction, its bytes since the node started.
func statWalRows(b *rowBuilder) {
	c := b.sess().Cluster()
	if c == nil {
		return
	}
	b.add(int64(c.CurrentLSN()), 0, strconv.FormatUint(c.WalBytes(), 10), 0, 0, 0, 0.0, 0.0, formatTimestamp(micros(c.StartTime())))
}

func statDatabaseRows(b *rowBuilder) {
	for _, d := range b.databases() {
		row := []any{ObjectOID(KindDatabase, d.Name), d.Name, 1}
		for len(row) < 17 {
			row = append(row, 0)
		}
		b.add(append(row, nil, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0, nil)...)
	}
}

// activityRows shows the session that asks, the only one that is known here.
func activityRows(b *rowBuilder) {
	s := b.sess()
	began := formatTimestamp(micros(s.Now()))
	b.add(ObjectOID(KindDatabase, s.Database()), s.Database(), int64(s.PID()), nil, b.roleOID(s.User()), s.User(), s.ApplicationName(),
		nil, nil, nil, began, began, formatTimestamp(micros(s.StatementTime())), began, nil, nil, "active", nil, nil, nil, nil, "client backend")
}

func degradationRows(b *rowBuilder) {
	c := b.sess().Cluster()
	if c == nil {
		return
	}
	for _, d := range c.Degradations() {
		var to any
		if d.To > 0 {
			to = lsn(d.To)
		}
		b.add(when(d.Began), when(d.Ended), lsn(d.From), to, d.Commits, optional(d.Reason))
	}
}

func timezoneRows(b *rowBuilder) {
	for _, name := range []string{"UTC", "Etc/UTC", "GMT"} {
		b.add(name, "UTC", "00:00:00", false)
	}
}
