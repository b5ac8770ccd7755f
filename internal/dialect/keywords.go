package dialect

import "strings"

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}

// reserved are PostgreSQL's reserved words: none is a column's name unless quoted.
var reserved = wordSet(`all analyse analyze and any array as asc asymmetric both case cast check
	collate column constraint create default deferrable desc distinct do else end except false fetch
	for foreign from grant group having in initially intersect into lateral leading limit not null
	offset on only or order placing primary references returning select some symmetric table then to
	trailing true union unique using variadic when where window with`)

// joinWords cannot be an alias without AS after a table; most may name functions.
var joinWords = wordSet(`authorization binary collation concurrently cross freeze full ilike inner is
	isnull join left like natural notnull outer overlaps right similar tablesample verbose indexed set
	glob regexp match between`)

// needsAS are the words, besides the reserved ones, that cannot be a column alias without AS.
var needsAS = wordSet(`char character day filter hour isnull minute month notnull over overlaps
	precision second varying within without year is like ilike similar between glob regexp match
	escape operator at`)

// sqliteReserved are the words that SQLite does not take as an identifier unless quoted.
var sqliteReserved = wordSet(`add all alter and as autoincrement between case check collate commit
	constraint create current_date current_time current_timestamp default deferrable delete distinct
	drop else escape except exists foreign from group having in index insert intersect into is isnull
	join limit not nothing notnull null on or order primary references returning select set table then
	to transaction union unique update using values when where indexed cross full inner left natural
	outer right filter over window`)

// readOnlyPragmas are SQLite's pragmas that only look.
var readOnlyPragmas = wordSet(`table_info table_xinfo table_list index_list index_info index_xinfo
	foreign_key_list foreign_key_check integrity_check quick_check function_list collation_list
	compile_options`)
