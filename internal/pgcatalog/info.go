package pgcatalog

import (
	"hash/fnv"
	"math/big"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/ncruces/go-sqlite3"

	"skein/internal/sqlstate"
)

// Release is the version of Skein.
const Release = "0.1.0"

// Version is what version() answers. Clients read the number after "PostgreSQL ".
const Version = "PostgreSQL 15.0 (Skein " + Release + ") on SQLite 3.54.1"

// sessionFunctions tell about the session, the server and privileges, and act on them.
func sessionFunctions() []function {
	list := []function{
		{"version", 0, 0, 0, always(Version)},
		{"current_database", 0, 0, 0, func(c *call) error { return c.returnText(c.sess().Database()) }},
		{"current_catalog_", 0, 0, 0, func(c *call) error { return c.returnText(c.sess().Database()) }},
		{"current_schema", 0, 0, 0, always("public")},
		{"current_schemas", 1, 1, 0, currentSchemas},
		{"current_user_", 0, 0, 0, userName},
		{"session_user_", 0, 0, 0, userName},
		{"current_role_", 0, 0, 0, userName},
		{"current_setting", 1, 2, 0, currentSetting},
		{"set_config", 3, 3, direct | nullable, setConfig},
		{"pg_backend_pid", 0, 0, 0, func(c *call) error { return c.returnInt(int64(c.sess().PID())) }},
		{"txid_current", 0, 0, 0, transactionID},
		{"pg_current_xact_id", 0, 0, 0, transactionID},
		{"txid_current_if_assigned", 0, 0, 0, transactionID},
		{"pg_current_xact_id_if_assigned", 0, 0, 0, transactionID},
		{"pg_postmaster_start_time", 0, 0, 0, startTime},
		{"pg_conf_load_time", 0, 0, 0, startTime},
		{"pg_my_temp_schema", 0, 0, 0, always(0)},
		{"pg_is_other_temp_schema", 1, 1, 0, always(false)},
		{"inet_server_addr", 0, 0, 0, always(nil)},
		{"inet_server_port", 0, 0, 0, always(nil)},
		{"inet_client_addr", 0, 0, 0, always(nil)},
		{"inet_client_port", 0, 0, 0, always(nil)},
		{"pg_sleep", 1, 1, direct, sleep},
		{"pg_size_pretty", 1, 1, pure, sizePretty},
		{"pg_size_bytes", 1, 1, pure, sizeBytes},
		{"pg_database_size", 1, 1, 0, databaseSize},
		{"pg_relation_size", 1, 2, 0, relationSize},
		{"pg_table_size", 1, 1, 0, relationSize},
		{"pg_total_relation_size", 1, 1, 0, relationSize},
		{"pg_indexes_size", 1, 1, 0, always(0)},
		{"pg_tablespace_size", 1, 1, 0, always(0)},
		{"pg_tablespace_location", 1, 1, 0, always("")},
		{"pg_relation_filenode", 1, 1, 0, always(nil)},
		{"pg_relation_filepath", 1, 1, 0, always(nil)},
		{"pg_advisory_lock", 1, 2, direct, advisory(false, false, false)},
		{"pg_advisory_lock_shared", 1, 2, direct, advisory(true, false, false)},
		{"pg_advisory_xact_lock", 1, 2, direct, advisory(false, false, true)},
		{"pg_advisory_xact_lock_shared", 1, 2, direct, advisory(true, false, true)},
		{"pg_try_advisory_lock", 1, 2, direct, advisory(false, true, false)},
		{"pg_try_advisory_lock_shared", 1, 2, direct, advisory(true, true, false)},
		{"pg_try_advisory_xact_lock", 1, 2, direct, advisory(false, true, true)},
		{"pg_try_advisory_xact_lock_shared", 1, 2, direct, advisory(true, true, true)},
		{"pg_advisory_unlock", 1, 2, direct, advisoryUnlock(false)},
		{"pg_advisory_unlock_shared", 1, 2, direct, advisoryUnlock(true)},
		{"pg_advisory_unlock_all", 0, 0, direct, func(c *call) error { c.sess().AdvisoryUnlockAll(); return c.returnText("") }},
		{"hashtext", 1, 1, pure, hashText},
		{"pg_char_to_encoding", 1, 1, pure, charToEncoding},
		{"pg_encoding_to_char", 1, 1, pure, encodingToChar},
		{"pg_client_encoding", 0, 0, 0, always("UTF8")},
		{"getdatabaseencoding", 0, 0, 0, always("UTF8")},
		{"pg_export_snapshot", 0, 0, direct, unsupported("pg_export_snapshot")},
		{"pg_notify", 2, 2, direct, unsupported("pg_notify")},
		{"pg_has_role", 2, 3, 0, always(true)},
		{"row_security_active", 1, 1, 0, always(false)},
		{"pg_stat_get_numscans", 1, 1, 0, always(0)},
		{"pg_stat_get_live_tuples", 1, 1, 0, always(0)},
		{"pg_stat_reset", 0, 0, direct, always("")},
		{"pg_blocking_pids", 1, 1, 0, always("{}")},
	}
	for _, kind := range []string{"table", "column", "any_column", "schema", "database", "sequence", "function", "language", "tablespace", "type", "server", "foreign_data_wrapper", "parameter"} {
		list = append(list, function{"has_" + kind + "_privilege", 2, 4, 0, always(true)})
	}
	return list
}

// sess gives the session that is running, or one that knows nothing when the engine runs a statement
// of its own.
func (cat *catalog) sess() Session {
	if s := cat.session(); s != nil {
		return s
	}
	return nobody{}
}

func userName(c *call) error { return c.returnText(c.sess().User()) }

func currentSchemas(c *call) error {
	if c.arg[0].Bool() {
		return c.returnText("{pg_catalog,public}")
	}
	return c.returnText("{public}")
}

func currentSetting(c *call) error {
	if v, ok := c.sess().Setting(c.text(0)); ok {
		return c.returnText(v)
	}
	for _, p := range presets {
		if strings.EqualFold(p.name, c.text(0)) {
			return c.returnText(p.value)
		}
	}
	if len(c.arg) > 1 && c.arg[1].Bool() {
		return nil
	}
	return sqlstate.New(sqlstate.UndefinedObject, "unrecognized configuration parameter \"%s\"", c.text(0))
}

func setConfig(c *call) error {
	if c.isNull(0) || c.isNull(2) {
		return sqlstate.New(sqlstate.InvalidParameterValue, "SET requires parameter name")
	}
	value := c.textOr(1, "")
	if err := c.sess().SetSetting(c.text(0), value, c.arg[2].Bool()); err != nil {
		return err
	}
	if v, ok := c.sess().Setting(c.text(0)); ok {
		value = v
	}
	return c.returnText(value)
}

func transactionID(c *call) error { return c.returnInt(c.sess().TransactionID()) }

func startTime(c *call) error {
	return c.returnText(formatTimestamp(micros(c.sess().Cluster().StartTime())))
}

// sleep waits, or until the statement is interrupted.
func sleep(c *call) error {
	seconds, err := toFloat(c.arg[0], "double precision")
	if err != nil {
		return err
	}
	timer := time.NewTimer(time.Duration(min(max(seconds, 0), 1e9) * float64(time.Second)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return c.returnText("")
	case <-c.conn.GetInterrupt().Done():
		c.ctx.ResultError(sqlite3.INTERRUPT)
		return nil
	}
}

func sizePretty(c *call) error {
	d, err := toDecimal(c.arg[0])
	if err != nil {
		return err
	}
	n, ok := new(big.Int).SetString(formatDecimal(roundTo(d, 0)), 10)
	if !ok {
		return badText("bigint", c.text(0))
	}
	return c.returnText(prettySize(n))
}

// sizeBytes reads what pg_size_pretty prints.
func sizeBytes(c *call) error {
	s := strings.TrimSpace(c.text(0))
	n := len(s)
	for n > 0 && (isLetter(s[n-1]) || s[n-1] == ' ') {
		n--
	}
	d, ok := parseDecimal(s[:n])
	unit := strings.ToLower(strings.TrimSpace(s[n:]))
	shift, known := map[string]uint{"": 0, "b": 0, "bytes": 0, "kb": 10, "mb": 20, "gb": 30, "tb": 40, "pb": 50}[unit]
	if !ok || !known {
		return sqlstate.New(sqlstate.InvalidParameterValue, "invalid size: \"%s\"", c.text(0))
	}
	bytes, err := decimalOp('*', d, apd.New(1<<shift, 0))
	if err != nil {
		return decimalError(err)
	}
	size, err := roundTo(plain(bytes), 0).Int64()
	if err != nil {
		return outOfRange("bigint")
	}
	return c.returnInt(size)
}

func databaseSize(c *call) error {
	name := c.text(0)
	if n, ok := c.number(); ok {
		for _, d := range c.databases() {
			if int64(ObjectOID(KindDatabase, d.Name)) == n {
				name = d.Name
			}
		}
	}
	return c.returnInt(c.sess().Cluster().DatabaseSize(name))
}

// relationSize is one page of PostgreSQL's: SQLite does not count pages by table.
func relationSize(c *call) error { return c.returnInt(8192) }

// advisory makes the functions that take advisory locks.
func advisory(shared, try, xact bool) func(*call) error {
	return func(c *call) error {
		key, err := c.lockKey()
		if err != nil {
			return err
		}
		got, err := c.sess().AdvisoryLock(key, shared, try, xact)
		if err != nil {
			return err
		}
		if try {
			return c.returnBool(got)
		}
		return c.returnText("")
	}
}

func advisoryUnlock(shared bool) func(*call) error {
	return func(c *call) error {
		key, err := c.lockKey()
		if err != nil {
			return err
		}
		return c.returnBool(c.sess().AdvisoryUnlock(key, shared))
	}
}

// lockKey is one 64-bit key or two of 32 bits.
func (c *call) lockKey() (int64, error) {
	key, err := c.int(0)
	if err != nil || len(c.arg) == 1 {
		return key, err
	}
	second, err := c.int(1)
	if err != nil {
		return 0, err
	}
	return key<<32 | second&0xffffffff, nil
}

// hashText differs from PostgreSQL's numbers, which it does not promise either.
func hashText(c *call) error {
	h := fnv.New32a()
	h.Write([]byte(c.text(0)))
	return c.returnInt(int64(int32(h.Sum32())))
}

func charToEncoding(c *call) error {
	switch strings.ToUpper(c.text(0)) {
	case "UTF8", "UTF-8", "UNICODE":
		return c.returnInt(6)
	case "SQL_ASCII":
		return c.returnInt(0)
	}
	return c.returnInt(-1)
}

func encodingToChar(c *call) error {
	n, err := c.int(0)
	if err != nil {
		return err
	}
	switch n {
	case 6:
		return c.returnText("UTF8")
	case 0:
		return c.returnText("SQL_ASCII")
	}
	return c.returnText("")
}

func unsupported(name string) func(*call) error {
	return func(*call) error {
		return sqlstate.New(sqlstate.FeatureNotSupported, "%s is not supported", name)
	}
}

// nobody stands in for a session while the engine runs a statement of its own.
type nobody struct{}

func (nobody) User() string                            { return superuser }
func (nobody) Database() string                        { return superuser }
func (nobody) PID() uint32                             { return 0 }
func (nobody) ApplicationName() string                 { return "" }
func (nobody) Setting(string) (string, bool)           { return "", false }
func (nobody) SetSetting(name, _ string, _ bool) error { return unsupported("set_config")(nil) }
func (nobody) Now() time.Time                          { return time.Now() }
func (nobody) StatementTime() time.Time                { return time.Now() }
func (nobody) TransactionID() int64                    { return 0 }

func (nobody) TransactionCommitted(string) (bool, error) { return false, nil }

func (nobody) SequenceValue(string) (int64, bool) { return 0, false }
func (nobody) LastSequenceValue() (int64, bool)   { return 0, false }
func (nobody) Numbered(string, int64, bool)       {}

func (nobody) AdvisoryLock(int64, bool, bool, bool) (bool, error) {
	return false, unsupported("lock")(nil)
}
func (nobody) AdvisoryUnlock(int64, bool) bool { return false }
func (nobody) AdvisoryUnlockAll()              {}
func (nobody) Fail(*sqlstate.Error)            {}
func (nobody) Cluster() Cluster                { return noCluster{} }

// noCluster is the cluster of nobody.
type noCluster struct{}

func (noCluster) Databases() []Database            { return nil }
func (noCluster) Roles() []Role                    { return nil }
func (noCluster) Settings() []Setting              { return nil }
func (noCluster) StoredSettings() []StoredSettings { return nil }
func (noCluster) Degradations() []Degradation      { return nil }
func (noCluster) DatabaseSize(string) int64        { return 0 }
func (noCluster) InRecovery() bool                 { return false }
func (noCluster) CurrentLSN() uint64               { return 0 }
func (noCluster) WalBytes() uint64                 { return 0 }
func (noCluster) StartTime() time.Time             { return time.Time{} }
func (noCluster) Replication() Replication         { return nil }
func (noCluster) Failover() Failover               { return nil }
