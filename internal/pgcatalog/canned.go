package pgcatalog

// Canned gives the replacement, in SQLite's dialect, for the few exact client queries that cannot
// be translated word by word.
func Canned(sql string) (replacement string, ok bool) {
	return "", false
}
