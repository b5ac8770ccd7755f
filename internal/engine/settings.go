package engine

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"skein/internal/commit"
	"skein/internal/dialect"
	"skein/internal/moment"
	"skein/internal/pgcatalog"
	"skein/internal/sqlstate"
)

// setting is one value of a run-time parameter. An empty present means that it had none.
type setting struct {
	name, value string
	present     bool
}

// maxNameBytes bounds what clients call their own: causality keys and transaction tokens.
const maxNameBytes = 200

// parameter describes a run-time parameter. The names and defaults are PostgreSQL's.
type parameter struct {
	name     string // as SHOW ALL and ParameterStatus spell it
	value    string // default
	kind     string // bool, integer, string, enum; ms, s and MB are integers with that unit
	choices  []string
	report   bool // the client is told of every change
	readOnly bool // SHOW only
	node     bool // set for the whole cluster, by ALTER SYSTEM
	agreed   bool // as node, and kept by the cluster itself, outside of its databases
}

var parameters = indexParameters([]parameter{
	{name: "application_name", kind: "string", report: true},
	{name: "backslash_quote", value: "safe_encoding", kind: "string"},
	{name: "bytea_output", value: "hex", kind: "enum", choices: []string{"hex", "escape"}},
	{name: "check_function_bodies", value: "on", kind: "bool"},
	{name: "client_encoding", value: "UTF8", kind: "string", report: true},
	{name: "client_min_messages", value: "notice", kind: "string"},
	{name: "constraint_exclusion", value: "partition", kind: "string"},
	{name: "DateStyle", value: "ISO, MDY", kind: "string", report: true},
	{name: "default_tablespace", kind: "string"},
	{name: "default_table_access_method", value: "heap", kind: "string"},
	{name: "default_transaction_deferrable", value: "off", kind: "bool"},
	{name: "default_transaction_isolation", value: "serializable", kind: "enum", choices: []string{"serializable", "repeatable read", "read committed", "read uncommitted"}},
	{name: "default_transaction_read_only", value: "off", kind: "bool", report: true},
	{name: "enable_seqscan", value: "on", kind: "bool"},
	{name: "escape_string_warning", value: "on", kind: "bool"},
	{name: "extra_float_digits", value: "1", kind: "integer"},
	{name: "idle_replication_slot_timeout", value: "0", kind: "s", node: true},
	{name: "idle_in_transaction_session_timeout", value: "0", kind: "ms"},
	{name: "idle_session_timeout", value: "0", kind: "ms"},
	{name: "in_hot_standby", value: "off", kind: "bool", report: true, readOnly: true},
	{name: "integer_datetimes", value: "on", kind: "bool", report: true, readOnly: true},
	{name: "IntervalStyle", value: "postgres", kind: "enum", choices: []string{moment.Postgres, moment.PostgresVerbose, moment.SQLStandard, moment.ISO8601}, report: true},
	{name: "is_superuser", value: "on", kind: "bool", report: true, readOnly: true},
	{name: "jit", value: "off", kind: "bool"},
	{name: "lc_collate", value: "C.UTF-8", kind: "string", readOnly: true},
	{name: "lc_ctype", value: "C.UTF-8", kind: "string", readOnly: true},
	{name: "lc_messages", value: "C.UTF-8", kind: "string"},
	{name: "lc_monetary", value: "C.UTF-8", kind: "string"},
	{name: "lc_numeric", value: "C.UTF-8", kind: "string"},
	{name: "lc_time", value: "C.UTF-8", kind: "string"},
	{name: "lock_timeout", value: "0", kind: "ms"},
	{name: "log_statement", value: "none", kind: "string"},
	{name: "max_connections", value: "100", kind: "integer", readOnly: true},
	{name: "max_identifier_length", value: "63", kind: "integer", readOnly: true},
	{name: "max_index_keys", value: "32", kind: "integer", readOnly: true},
	// Not PostgreSQL's -1, which lets a follower that never returns fill the leader's disk.
	{name: "max_slot_wal_keep_size", value: "10240", kind: "MB", node: true},
	{name: "password_encryption", value: "scram-sha-256", kind: "enum", choices: []string{"scram-sha-256"}},
	{name: "role", value: "none", kind: "string"},
	{name: "row_security", value: "on", kind: "bool"},
	{name: "search_path", value: `"$user", public`, kind: "string"},
	{name: "server_encoding", value: "UTF8", kind: "string", report: true, readOnly: true},
	{name: "server_version", value: ServerVersion, kind: "string", report: true, readOnly: true},
	{name: "server_version_num", value: "150000", kind: "integer", readOnly: true},
	{name: "session_authorization", kind: "string", report: true},
	{name: "session_replication_role", value: "origin", kind: "string"},
	// Without a cluster that appoints its leader nobody is promoted by itself.
	{name: "skein.automatic_failover", value: "off", kind: "bool", agreed: true},
	{name: "skein.causality_key", kind: "string"},
	{name: "skein.failover_pause", value: "60000", kind: "ms", agreed: true},
	{name: "skein.failover_timeout", value: "700", kind: "ms", agreed: true},
	{name: "skein.failover_wait", value: "10000", kind: "ms"},
	{name: "skein.last_commit", kind: "string", report: true, readOnly: true},
	{name: lastSeen, kind: "string", readOnly: true},
	{name: "skein.max_staleness", value: "1000", kind: "ms"},
	{name: "skein.min_apply_delay", value: "0", kind: "ms", node: true},
	{name: "skein.on_sync_timeout", value: "wait", kind: "enum", choices: []string{"wait", "degrade"}, node: true},
	{name: "skein.optimistic_blocks", value: "on", kind: "bool"},
	{name: "skein.provenance", kind: "string", readOnly: true},
	{name: "skein.read_consistency", value: "session", kind: "enum", choices: []string{"eventual", "session", "bounded", "strong"}},
	{name: "skein.read_wait", value: "100", kind: "ms"},
	{name: "skein.read_your_writes_window", value: "0", kind: "ms"},
	{name: "skein.report_provenance", value: "off", kind: "bool"},
	{name: "skein.stall_timeout", value: "5000", kind: "ms", agreed: true},
	{name: "skein.sync_timeout", value: "10000", kind: "ms", node: true},
	{name: "skein.transaction_token", kind: "string"},
	{name: "skein.transaction_token_retention", value: "86400", kind: "s", node: true},
	{name: "skein.wait_for", kind: "string"},
	{name: "standard_conforming_strings", value: "on", kind: "enum", choices: []string{"on"}, report: true},
	{name: "statement_timeout", value: "0", kind: "ms"},
	{name: "synchronize_seqscans", value: "on", kind: "bool"},
	{name: "synchronous_commit", value: "on", kind: "enum", choices: []string{"local", "remote_write", "remote_apply", "on", "off"}},
	{name: "synchronous_standby_names", kind: "string", node: true},
	{name: "TimeZone", value: "Etc/UTC", kind: "string", report: true},
	{name: "transaction_deferrable", value: "off", kind: "bool"},
	{name: "transaction_isolation", value: "serializable", kind: "enum", choices: []string{"serializable", "repeatable read", "read committed", "read uncommitted"}},
	{name: "transaction_read_only", value: "off", kind: "bool"},
	{name: "wal_segment_size", value: "64MB", kind: "string", readOnly: true},
	{name: "work_mem", value: "4MB", kind: "string"},
	{name: "xmloption", value: "content", kind: "string"},
})

func indexParameters(list []parameter) map[string]*parameter {
	m := map[string]*parameter{}
	for i := range list {
		m[strings.ToLower(list[i].name)] = &list[i]
	}
	return m
}

// settings are the parameters of one session: its own, over the cluster's, over the defaults. Keys are
// lower case.
type settings struct {
	values  map[string]string
	cluster *clusterSettings // as the session has last seen them; nil for none
}

// get gives a parameter's value, "" for one that does not exist.
func (v *settings) get(name string) string {
	value, _ := v.lookup(name)
	return value
}

func (v *settings) lookup(name string) (string, bool) {
	if value, ok := v.values[name]; ok {
		return value, true
	}
	return v.cluster.lookup(name)
}

func (v *settings) duration(name string) time.Duration {
	ms, _ := strconv.Atoi(v.get(name))
	return time.Duration(ms) * time.Millisecond
}

// put sets a parameter without any check and gives what it was before.
func (v *settings) put(name, value string) setting {
	old, ok := v.values[name]
	if v.values == nil {
		v.values = map[string]string{}
	}
	v.values[name] = value
	return setting{name, old, ok}
}

func (v *settings) restore(s setting) {
	if s.present {
		v.values[s.name] = s.value
	} else {
		delete(v.values, s.name)
	}
}

// checked gives the canonical form of a value for a parameter.
func checked(name, value string) (string, error) {
	p := parameters[name]
	if p == nil {
		if strings.HasPrefix(name, "skein.") {
			return "", sqlstate.New(sqlstate.InvalidName, "invalid configuration parameter name %q", name).
				WithDetail("\"skein\" is a reserved prefix.").
				WithHint("A session may set %s.", strings.Join(ownParameters(), ", "))
		}
		if strings.Contains(name, ".") { // a setting of some extension or application
			return value, nil
		}
		return "", sqlstate.New(sqlstate.UndefinedObject, "unrecognized configuration parameter %q", name)
	}
	if p.readOnly {
		return "", sqlstate.New(sqlstate.CantChangeRuntimeParam, "parameter %q cannot be changed", p.name)
	}
	invalid := sqlstate.New(sqlstate.InvalidParameterValue, "invalid value for parameter %q: %q", p.name, value)
	switch p.kind {
	case "bool":
		return boolValue(value, invalid.WithHint("Available values: on, off."))
	case "integer":
		if _, err := strconv.Atoi(value); err != nil {
			return "", invalid
		}
	case "ms", "s", "MB":
		n, err := quantity(value, p.kind)
		if err != nil || n < 0 && (p.kind != "MB" || n != -1) {
			return "", invalid.WithHint("%s", quantityHint(p.kind))
		}
		return strconv.FormatInt(n, 10), nil
	case "enum":
		value = strings.ToLower(value)
		if name == "synchronous_commit" {
			return synchronousCommit(value, p, invalid)
		}
		if !slices.Contains(p.choices, value) {
			return "", invalid.WithHint("Available values: %s.", strings.Join(p.choices, ", "))
		}
	}
	return checkedSpecial(name, value, invalid)
}

// ownParameters are Skein's own that a session may set.
func ownParameters() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if p := parameters[name]; strings.HasPrefix(name, "skein.") && !p.readOnly && !p.node && !p.agreed {
			names = append(names, name)
		}
	}
	return names
}

// checkedForSession refuses what holds for the whole cluster, too.
func checkedForSession(name, value string) (string, error) {
	if p := parameters[name]; p != nil && (p.node || p.agreed) {
		return "", sqlstate.New(sqlstate.CantChangeRuntimeParam, "parameter %q cannot be changed now", p.name).
			WithHint("It holds for the whole cluster: use ALTER SYSTEM SET.")
	}
	return checked(name, value)
}

func checkedSpecial(name, value string, invalid *sqlstate.Error) (string, error) {
	switch name {
	case "client_encoding":
		if e := strings.ToUpper(strings.ReplaceAll(strings.Trim(value, "'\""), "-", "")); e == "UTF8" || e == "UNICODE" {
			return "UTF8", nil
		}
		return "", invalid.WithHint("Skein speaks UTF8 only.")
	case "datestyle":
		if !strings.HasPrefix(strings.ToUpper(value), "ISO") {
			return "", invalid.WithHint("Skein writes dates in ISO style only.")
		}
		return "ISO, MDY", nil
	case "skein.causality_key", "skein.transaction_token":
		if len(value) > maxNameBytes {
			return "", invalid.WithHint("It has at most %d bytes, as in 'user:42'.", maxNameBytes)
		}
	case "skein.wait_for":
		if value == "" {
			return "", nil
		}
		if _, err := parsePosition(value); err != nil {
			return "", invalid.WithHint("%s", positionHint)
		}
	case "synchronous_standby_names":
		if _, err := commit.ParseStandbyNames(value); err != nil {
			return "", invalid.WithDetail("%v", err)
		}
	case "timezone":
		if _, err := moment.SessionZone(value); err != nil {
			return "", invalid
		}
	}
	return value, nil
}

func synchronousCommit(value string, p *parameter, invalid *sqlstate.Error) (string, error) {
	level, err := commit.ParseLevel(value)
	if err != nil {
		return "", invalid.WithHint("Available values: %s.", strings.Join(p.choices, ", "))
	}
	return level.String(), nil
}

func boolValue(value string, invalid error) (string, error) {
	switch strings.ToLower(value) {
	case "on", "true", "yes", "1", "t", "y":
		return "on", nil
	case "off", "false", "no", "0", "f", "n":
		return "off", nil
	}
	return "", invalid
}

// unit is a unit that a setting may be given in; size counts in the setting's own unit.
type unit struct {
	name string
	size float64
}

// units are those of each kind of setting that has one, the largest first.
var units = map[string][]unit{
	"ms": {{"d", 86_400_000}, {"h", 3_600_000}, {"min", 60_000}, {"s", 1000}, {"ms", 1}, {"us", 0.001}},
	"s":  {{"d", 86_400}, {"h", 3600}, {"min", 60}, {"s", 1}, {"ms", 0.001}, {"us", 0.000_001}},
	"MB": {{"TB", 1 << 20}, {"GB", 1 << 10}, {"MB", 1}, {"kB", 1.0 / (1 << 10)}, {"B", 1.0 / (1 << 20)}},
}

var errOutOfRange = errors.New("out of range")

// quantity reads "500", "500ms", "1.5s", "2min", "64MB" in the units of a kind.
func quantity(value, kind string) (int64, error) {
	value = strings.TrimSpace(value)
	digits := strings.IndexFunc(value, func(r rune) bool { return (r < '0' || r > '9') && r != '.' && r != '-' })
	if digits < 0 {
		digits = len(value)
	}
	n, err := strconv.ParseFloat(value[:digits], 64)
	if err != nil {
		return 0, err
	}
	named := strings.TrimSpace(value[digits:])
	size := 1.0
	if named != "" {
		i := slices.IndexFunc(units[kind], func(u unit) bool { return u.name == named })
		if i < 0 {
			return 0, fmt.Errorf("no unit of %s: %q", kind, named)
		}
		size = units[kind][i].size
	}
	if n *= size; math.Abs(n) > math.MaxInt32 {
		return 0, errOutOfRange
	}
	return int64(math.Round(n)), nil
}

// quantityHint says what quantity takes.
func quantityHint(kind string) string {
	var names []string
	for _, u := range units[kind] {
		names = append(names, u.name)
	}
	hint := fmt.Sprintf("It is from 0 to %d %s; its units are %s", math.MaxInt32, kind, strings.Join(names, ", "))
	if kind == "MB" {
		hint += "; -1 is no limit"
	}
	return hint + "."
}

// replaced is what a SET of the open transaction replaced.
type replaced struct {
	setting
	local bool
}

// Told sets a parameter that only the server sets, as skein.last_commit, whatever transaction is open. The
// client hears of it if it is one of those that are reported.
func (s *Session) Told(name, value string) {
	if s.settings.get(name) != value {
		s.settings.put(name, value)
		s.applied(name)
	}
}

// Setting gives a parameter's value, in its own unit and without it; "" for one that does not exist. The name is in
// lower case.
func (s *Session) Setting(name string) string {
	value, _ := s.lookup(name)
	return value
}

// undoSettings puts back what the transaction has set after its first n changes.
func (s *Session) undoSettings(n int) {
	for _, c := range slices.Backward(s.tx.changes[n:]) {
		s.putBack(c.setting)
	}
	s.tx.changes = s.tx.changes[:n]
}

// keepSettings puts back what SET LOCAL changed, unless a SET came after it.
func (s *Session) keepSettings() {
	if len(s.tx.changes) == 0 {
		return
	}
	kept := map[string]bool{}
	for _, c := range slices.Backward(s.tx.changes) {
		if !c.local {
			kept[c.name] = true
		} else if !kept[c.name] {
			s.putBack(c.setting)
		}
	}
	s.tx.changes = nil
}

func (s *Session) putBack(old setting) {
	now := s.settings.get(old.name)
	s.settings.restore(old)
	if s.settings.get(old.name) != now {
		s.applied(old.name)
	}
}

// set is SET, SET LOCAL and set_config.
func (s *Session) set(name, value string, local bool) error {
	name = strings.ToLower(name)
	switch name {
	case "transaction_isolation", "transaction_read_only", "transaction_deferrable":
		return s.setTransaction(name, value)
	case "role", "session_authorization":
		return s.setRole(name, value)
	}
	value, err := checkedForSession(name, value)
	if err != nil {
		return err
	}
	s.change(name, value, local)
	return nil
}

// change sets a checked value. Within a transaction the old one is remembered: a rollback undoes SET,
// the end of the transaction, or of a reading that stands alone, SET LOCAL.
func (s *Session) change(name, value string, local bool) {
	s.replace(setting{name, value, true}, local)
}

func (s *Session) replace(with setting, local bool) {
	now := s.settings.get(with.name)
	old := s.settings.put(with.name, with.value)
	if !with.present {
		s.settings.restore(with)
	}
	if s.tx.open() || local {
		s.tx.changes = append(s.tx.changes, replaced{old, local})
	}
	if s.settings.get(with.name) != now {
		s.applied(with.name)
	}
}

// applied tells the client and the value formats of a changed setting.
func (s *Session) applied(name string) {
	if carried(name) {
		s.changes++
	}
	value, _ := s.show(name)
	s.applyToEnv(name, s.settings.get(name))
	switch p := parameters[name]; {
	case p != nil && (p.report || s.forwarded != nil):
		s.out.ParameterStatus(p.name, value)
	case s.forwarded != nil:
		s.out.ParameterStatus(name, value)
	}
}

// applyToEnv has values read and written as a setting says, and keeps at hand what each commit asks for.
func (s *Session) applyToEnv(name, value string) {
	env := s.out.Env()
	switch name {
	case "timezone":
		if loc, err := moment.SessionZone(value); err == nil {
			env.TimeZone = loc
		}
	case "extra_float_digits":
		env.ExtraFloatDigits, _ = strconv.Atoi(value)
	case "bytea_output":
		env.ByteaOutput = value
	case "intervalstyle":
		env.IntervalStyle = value
	case "skein.causality_key":
		s.causality = value
	case "skein.transaction_token":
		s.naming = value
	}
}

// reset is RESET name: back to what the session began with, or to the cluster's value if that was none.
func (s *Session) reset(name string, local bool) error {
	name = strings.ToLower(name)
	p := parameters[name]
	if p == nil && !strings.Contains(name, ".") {
		return sqlstate.New(sqlstate.UndefinedObject, "unrecognized configuration parameter %q", name)
	}
	if p != nil && (p.readOnly || name == "session_authorization") {
		return nil
	}
	first, ok := s.startup[name]
	s.replace(setting{name, first.value, ok}, local)
	return nil
}

func (s *Session) resetAll() error {
	for _, name := range slices.Sorted(maps.Keys(s.settings.values)) {
		if err := s.reset(name, false); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) setTransaction(name, value string) error {
	if !s.tx.open() {
		return nil
	}
	if name == "transaction_isolation" {
		value, err := checked(name, value)
		if err != nil {
			return err
		}
		return s.setModes(&dialect.TxnOptions{Isolation: value})
	}
	on, err := boolValue(value, sqlstate.New(sqlstate.InvalidParameterValue, "parameter %q requires a Boolean value", name))
	if err != nil || name == "transaction_deferrable" {
		return err
	}
	return s.setModes(&dialect.TxnOptions{ReadOnly: choice(on == "on")})
}

func (s *Session) setRole(name, value string) error {
	if value == "none" || value == s.user || strings.EqualFold(value, "default") {
		return nil
	}
	if _, ok := s.engine.role(value); !ok {
		return sqlstate.New(sqlstate.InvalidParameterValue, "role %q does not exist", value)
	}
	return sqlstate.New(sqlstate.FeatureNotSupported, "SET %s to another role is not supported", strings.ToUpper(strings.ReplaceAll(name, "_", " ")))
}

// show gives a parameter's value as SHOW prints it.
func (s *Session) show(name string) (string, bool) {
	switch name = strings.ToLower(name); name {
	case "transaction_isolation":
		if s.tx.open() {
			return s.tx.isolation, true
		}
		return s.settings.get("default_transaction_isolation"), true
	case "transaction_read_only":
		return onOff(s.readOnly()), true
	case "in_hot_standby":
		return onOff(s.standsBy()), true
	case "session_authorization":
		return s.user, true
	}
	value, ok := s.lookup(name)
	if p := parameters[name]; p != nil {
		return spell(value, p.kind), true
	}
	return value, ok
}

// lookup gives a parameter's value, in its own unit.
func (s *Session) lookup(name string) (string, bool) {
	if p := parameters[name]; p != nil && p.agreed {
		return s.engine.agreed(p), true
	}
	if name == lastSeen {
		return s.lastSeen(), true
	}
	return s.settings.lookup(name)
}

// spell writes a quantity with the largest unit that divides it.
func spell(value, kind string) string {
	if units[kind] == nil {
		return value
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n <= 0 {
		return value
	}
	for _, u := range units[kind] {
		if u.size >= 1 && n%int64(u.size) == 0 {
			return strconv.FormatInt(n/int64(u.size), 10) + u.name
		}
	}
	return value
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// Parameters are the settings that the client is told when it connects.
func (s *Session) Parameters() [][2]string {
	var all [][2]string
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if p := parameters[name]; p.report {
			value, _ := s.show(name)
			all = append(all, [2]string{p.name, value})
		}
	}
	return all
}

func (s *Session) allSettings() []pgcatalog.Setting {
	var all []pgcatalog.Setting
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		p := parameters[name]
		value, _ := s.show(name)
		if units[p.kind] != nil {
			value, _ = s.lookup(name)
		}
		e := pgcatalog.Setting{Name: p.name, Value: value, Default: p.value, Type: p.kind, Context: "user", EnumValues: p.choices}
		e.Reset, e.Source = s.origin(name)
		if units[p.kind] != nil {
			e.Type, e.Unit = "integer", p.kind
		}
		switch {
		case p.readOnly:
			e.Context = "internal"
		case p.node, p.agreed:
			e.Context = "sighup"
		}
		all = append(all, e)
	}
	return all
}

// origin gives what RESET would make of a setting, and where its value comes from.
func (s *Session) origin(name string) (reset, source string) {
	reset, source = parameters[name].value, "default"
	if p := parameters[name]; p.agreed && s.engine.agreed(p) != p.value {
		return s.engine.agreed(p), "configuration file"
	}
	if value, ok := s.settings.cluster.values[name]; ok {
		reset, source = value, "configuration file"
	}
	if first, ok := s.startup[name]; ok {
		reset, source = first.value, first.source
	}
	if value, ok := s.settings.values[name]; ok && value != reset {
		source = "session"
	}
	return reset, source
}
