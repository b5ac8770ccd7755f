package moment

import "strings"

// abbreviations are the zones of PostgreSQL's default list that are in common use, in quarters of an
// hour east of UTC. Everything else goes by its name in the tz database.
var abbreviations = map[string]int8{
	"Z": 0, "ZULU": 0, "UTC": 0, "UT": 0, "GMT": 0, "WET": 0,
	"CET": 4, "MET": 4, "BST": 4, "WEST": 4, "CEST": 8, "MEST": 8, "EET": 8, "EEST": 12, "MSK": 12, "SAST": 8,
	"IST": 8, "PKT": 20, "CCT": 32, "HKT": 32, "SGT": 32, "AWST": 32, "JST": 36, "KST": 36, "AEST": 40, "AEDT": 44,
	"NZST": 48, "NZDT": 52, "NST": -14, "AST": -16, "ADT": -12, "EST": -20, "EDT": -16, "CST": -24, "CDT": -20,
	"MST": -28, "MDT": -24, "PST": -32, "PDT": -28, "AKST": -36, "AKDT": -32, "HST": -40,
}

const (
	months   = "january february march april may june july august september october november december"
	weekdays = "sunday monday tuesday wednesday thursday friday saturday"
)

// Month finds a month, from 1, by its name or the first three letters of it, or 0.
func Month(word string) int { return position(months, strings.ToLower(word)) }

func isWeekday(word string) bool {
	switch word {
	case "tues", "wednes", "weds", "thur", "thurs":
		return true
	}
	return position(weekdays, word) > 0
}

// position finds word, or its abbreviation to three letters, in a list, counting from 1.
func position(list, word string) int {
	if word == "sept" {
		word = "sep"
	}
	for i, name := range strings.Fields(list) {
		if word == name || len(word) == 3 && name[:3] == word {
			return i + 1
		}
	}
	return 0
}
