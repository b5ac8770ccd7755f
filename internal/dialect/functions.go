package dialect

import (
	"strings"

	"skein/internal/oid"
)

// rowFunctions give rows; in FROM they are table-valued functions of SQLite.
var rowFunctions = wordSet(`unnest generate_series generate_subscripts json_each json_tree jsonb_each
	json_each_text jsonb_each_text json_array_elements jsonb_array_elements json_array_elements_text
	jsonb_array_elements_text json_object_keys jsonb_object_keys regexp_split_to_table string_to_table
	pg_get_keywords pg_show_all_settings pg_timezone_names pg_timezone_abbrevs pg_lock_status
	pg_stat_get_activity pg_options_to_table aclexplode pg_create_physical_replication_slot skein_verify
	skein_failover_check`)

// listFunctions are the row functions whose one column is called value, after which PostgreSQL names
// the function's alias.
var listFunctions = wordSet(`unnest generate_series generate_subscripts regexp_split_to_table
	string_to_table`)

// results are the functions whose result has always the same type.
var results = functionResults(map[oid.OID]string{
	oid.Int8: `count row_number rank dense_rank bit_length octet_length_ pg_database_size pg_relation_size
		pg_total_relation_size pg_table_size pg_indexes_size pg_size_bytes txid_current lastval currval nextval setval
		factorial last_insert_rowid changes total_changes pg_tablespace_size txid_current_if_assigned`,
	oid.Int4: `length char_length character_length octet_length position strpos ascii ntile
		pg_backend_pid array_length array_upper array_lower array_ndims cardinality array_position
		generate_subscripts json_array_length jsonb_array_length pg_my_temp_schema_ unicode instr
		inet_server_port inet_client_port width_bucket regexp_count scale`,
	oid.Text: `lower upper initcap substring substr overlay replace repeat reverse left right lpad rpad
		btrim ltrim rtrim concat concat_ws format to_char md5 chr quote_ident quote_literal
		quote_nullable split_part translate string_agg group_concat version format_type pg_get_expr
		pg_get_indexdef pg_get_constraintdef pg_get_viewdef pg_get_functiondef pg_get_triggerdef
		pg_get_ruledef pg_get_serial_sequence pg_get_partkeydef pg_get_statisticsobjdef
		pg_get_function_arguments pg_get_function_result pg_get_function_identity_arguments
		obj_description col_description shobj_description array_to_string current_setting set_config
		pg_size_pretty json_typeof jsonb_typeof json_extract_path_text jsonb_extract_path_text encode
		regexp_replace regexp_substr typeof printf hex quote pg_tablespace_location to_hex timeofday
		pg_describe_object date strftime time datetime regclass_out regtype_out regproc_out
		pg_get_userbyid_ pg_current_wal_lsn_ json_extract json_object json_array json_quote
		jsonb_pretty pg_client_encoding_ pg_get_wal_replay_pause_state skein_switchover
		skein_cancel_switchover skein_failover skein_remove_member skein_set_member to_char_tz timestamptz_text interval_text bool_text json_path_text`,
	oid.Name: `current_database current_schema current_user_ current_user session_user user
		pg_get_userbyid pg_encoding_to_char getdatabaseencoding pg_client_encoding`,
	oid.NameArray: `current_schemas`,
	oid.Bool: `pg_table_is_visible pg_type_is_visible pg_function_is_visible pg_opclass_is_visible
		pg_operator_is_visible pg_collation_is_visible pg_ts_config_is_visible pg_is_in_recovery
		pg_try_advisory_lock pg_try_advisory_lock_shared pg_try_advisory_xact_lock
		pg_try_advisory_xact_lock_shared pg_advisory_unlock pg_advisory_unlock_shared
		has_table_privilege has_schema_privilege has_database_privilege has_column_privilege
		has_function_privilege has_sequence_privilege has_any_column_privilege pg_has_role pg_cancel_backend
		pg_terminate_backend pg_relation_is_publishable pg_relation_is_updatable starts_with bool_and
		bool_or every isfinite json_valid pg_reload_conf pg_promote pg_is_wal_replay_paused pg_is_other_temp_schema regexp_like row_security_active contains contained array_overlaps jsonb_exists jsonb_exists_any jsonb_exists_all`,
	oid.Float8: `random cume_dist percent_rank stddev stddev_pop stddev_samp variance var_pop var_samp
		cbrt pi degrees radians sin cos tan asin acos atan atan2 corr total julianday sinh cosh tanh date_part date_part_tz skein_staleness`,
	oid.Numeric:      `extract extract_tz to_number div pg_wal_lsn_diff`,
	oid.Timestamptz:  `now transaction_timestamp statement_timestamp clock_timestamp to_timestamp current_timestamp pg_postmaster_start_time pg_conf_load_time make_timestamptz timezone_utc date_trunc_tz pg_last_xact_replay_timestamp`,
	oid.Timestamp:    `localtimestamp make_timestamp date_bin timestamptz_local`,
	oid.Date:         `current_date_ current_date to_date make_date`,
	oid.TimeTZ:       `current_time_ current_time`,
	oid.Time:         `localtime localtime_ make_time`,
	oid.Interval:     `age make_interval justify_days justify_hours justify_interval`,
	oid.UUID:         `gen_random_uuid uuid_generate_v4 uuid_generate_v1`,
	oid.Bytea:        `decode convert_to sha224 sha256 sha384 sha512 digest gen_random_bytes randomblob zeroblob unhex bytea_cat`,
	oid.JSON:         `skein_overview json_build_object json_build_array json_agg json_object_agg to_json row_to_json json_group_array json_group_object array_to_json json_extract_path json_strip_nulls json_remove json_set json_insert json_replace json_patch`,
	oid.JSONB:        `jsonb_build_object jsonb_build_array jsonb_agg jsonb_object_agg to_jsonb jsonb_set jsonb_insert jsonb_strip_nulls jsonb_extract_path jsonb`,
	oid.TextArray:    `string_to_array regexp_split_to_array regexp_match regexp_matches parse_ident`,
	oid.Regclass:     `to_regclass`,
	oid.Regtype:      `to_regtype pg_typeof`,
	oid.Regproc:      `to_regproc`,
	oid.Regnamespace: `to_regnamespace`,
	oid.Regrole:      `to_regrole`,
	oid.OIDType:      `pg_my_temp_schema lo_creat lo_create`,
	oid.PgLSN:        `pg_current_wal_lsn pg_last_wal_replay_lsn pg_last_wal_receive_lsn pg_current_wal_insert_lsn pg_current_wal_flush_lsn`,
	oid.Record:       `pg_create_physical_replication_slot`,
	oid.Void: `pg_sleep pg_advisory_lock pg_advisory_lock_shared pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_advisory_unlock_all pg_notify
		pg_wal_replay_pause pg_wal_replay_resume pg_drop_replication_slot`,
})

func functionResults(words map[oid.OID]string) map[string]oid.OID {
	types := map[string]oid.OID{}
	for t, names := range words {
		for name := range wordSet(names) {
			types[name] = t
		}
	}
	return types
}

// functionType is the type of a function's result, 0 when it is not known or depends on the arguments.
func functionType(name string) oid.OID {
	if t := results[name]; t != 0 {
		return t
	}
	// A cast, as it stands in the text of a view.
	if typ, ok := strings.CutPrefix(name, "cast_"); ok {
		if t := oid.ByName(typ); t != nil && t.Name == typ {
			return t.OID
		}
	}
	return 0
}

// argumentTypes are the types that a function's first arguments have; nil when they may be any.
func argumentTypes(name string) []oid.OID {
	switch name {
	case "lower", "upper", "initcap", "length", "char_length", "character_length", "btrim", "ltrim", "rtrim", "md5", "reverse",
		"replace", "strpos", "position", "quote_ident", "quote_literal", "current_setting", "set_config", "to_regclass",
		"to_regtype", "concat_ws", "translate", "starts_with", "pg_notify", "to_date", "to_number":
		return []oid.OID{oid.Text, oid.Text, oid.Text}
	case "substring", "substr", "left", "right", "lpad", "rpad", "repeat":
		if name == "substring" || name == "substr" {
			return []oid.OID{oid.Text, oid.Int4, oid.Int4}
		}
		return []oid.OID{oid.Text, oid.Int4, oid.Text}
	case "split_part":
		return []oid.OID{oid.Text, oid.Text, oid.Int4}
	case "pg_sleep":
		return []oid.OID{oid.Float8}
	case "date_trunc", "date_part":
		return []oid.OID{oid.Text, oid.Timestamptz}
	case "pg_advisory_lock", "pg_try_advisory_lock", "pg_advisory_unlock", "pg_advisory_xact_lock", "pg_try_advisory_xact_lock",
		"pg_advisory_lock_shared", "pg_try_advisory_lock_shared", "pg_advisory_unlock_shared":
		return []oid.OID{oid.Int8}
	case "pg_create_physical_replication_slot", "pg_drop_replication_slot":
		return []oid.OID{oid.Name, oid.Bool, oid.Bool}
	case "skein_switchover":
		return []oid.OID{oid.Text, oid.Timestamptz, oid.Bool}
	case "skein_failover":
		return []oid.OID{oid.Text, oid.Bool, oid.Bool}
	case "skein_set_member", "skein_remove_member":
		return []oid.OID{oid.Text, oid.Text, oid.Text}
	case "pg_promote":
		return []oid.OID{oid.Bool, oid.Int4}
	case "pg_wal_lsn_diff":
		return []oid.OID{oid.PgLSN, oid.PgLSN}
	case "format_type", "pg_get_indexdef", "pg_get_constraintdef", "pg_table_is_visible", "pg_get_viewdef", "col_description":
		return []oid.OID{oid.OIDType, oid.Int4}
	case "obj_description", "shobj_description":
		return []oid.OID{oid.OIDType, oid.Text}
	case "string_agg":
		return []oid.OID{oid.Text, oid.Text}
	case "array_to_string":
		return []oid.OID{0, oid.Text, oid.Text}
	case "string_to_array":
		return []oid.OID{oid.Text, oid.Text, oid.Text}
	case "to_timestamp":
		return []oid.OID{oid.Float8}
	}
	return nil
}
