package dialect

import "skein/internal/oid"

// rowFunctions give rows; in FROM they are table-valued functions of SQLite.
var rowFunctions = wordSet(`unnest generate_series generate_subscripts json_each json_tree jsonb_each
	json_each_text jsonb_each_text json_array_elements jsonb_array_elements json_array_elements_text
	jsonb_array_elements_text json_object_keys jsonb_object_keys regexp_split_to_table string_to_table
	pg_get_keywords pg_show_all_settings pg_timezone_names pg_timezone_abbrevs pg_lock_status
	pg_stat_get_activity pg_options_to_table aclexplode`)

// listFunctions are the row functions whose one column is called value, after which PostgreSQL names
// the function's alias.
var listFunctions = wordSet(`unnest generate_series generate_subscripts regexp_split_to_table
	string_to_table`)

func functionType(name string) oid.OID { return 0 }
