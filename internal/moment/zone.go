package moment

import (
	"math"
	"strconv"
	"strings"
	"time"

	"skein/internal/sqlstate"
)

// LoadZone finds a time zone by what AT TIME ZONE takes: an abbreviation, a name, or an interval,
// which counts to the east, as it is stored.
func LoadZone(name string) (*time.Location, error) {
	lower := strings.ToLower(name)
	if zone, ok := movingAbbreviations[lower]; ok {
		return loadNamed(zone)
	}
	if offset, ok := abbreviations[lower]; ok && offset != 0 {
		return time.FixedZone(name, int(offset)*900), nil
	} else if ok {
		return time.UTC, nil
	}
	if strings.Count(name, ":") == 2 {
		return offsetZone(name, 1)
	}
	return loadNamed(name)
}

// SessionZone finds a time zone by what SET TIME ZONE takes: a number of hours to the east, which may
// be followed by minutes or have a fraction, or a name.
func SessionZone(name string) (*time.Location, error) {
	if hours, err := strconv.ParseFloat(name, 64); err == nil && hours > -16 && hours < 16 {
		return time.FixedZone(name, int(math.Round(hours*3600))), nil
	}
	if zone, err := offsetZone(name, 1); err == nil {
		return zone, nil
	}
	return loadNamed(name)
}

// offsetZone reads hours and perhaps minutes and seconds, with or without a sign, which direction makes
// offsets to the east.
func offsetZone(text string, direction int) (*time.Location, error) {
	var d decoder
	signed := text
	if text != "" && isDigit(text[0]) {
		signed = "+" + text
	}
	if d.zoneOffset(signed) != nil || !isDigit(text[len(text)-1]) {
		return nil, unknownZone(text)
	}
	return time.FixedZone(text, direction*int(d.offset)), nil
}

// loadNamed finds a zone of the tz database in any case of its letters, or one such as UTC+3 or +3,
// whose hours count to the west as POSIX has it.
func loadNamed(name string) (*time.Location, error) {
	lower := strings.ToLower(name)
	if len(name) > 64 || lower == "local" || lower == "" {
		return nil, unknownZone(name)
	}
	for _, spelling := range []string{name, strings.ToUpper(name), capitals(lower)} {
		if location, err := time.LoadLocation(spelling); err == nil {
			return location, nil
		}
	}
	letters := prefix(name, isLetter)
	if strings.HasPrefix(name, "<") {
		letters = strings.IndexByte(name, '>') + 1
	}
	zone, err := offsetZone(name[letters:], -1)
	if err != nil {
		return nil, unknownZone(name)
	}
	return zone, nil
}

// capitals spells america/new_york as the tz database does.
func capitals(lower string) string {
	b := []byte(lower)
	for i := range b {
		if isLetter(b[i]) && (i == 0 || !isLetter(b[i-1])) {
			b[i] -= 'a' - 'A'
		}
	}
	return strings.NewReplacer("-Au-", "-au-", "_Of_", "_of_", "_Es_", "_es_", "Etc/Gmt", "Etc/GMT").Replace(string(b))
}

func unknownZone(name string) error {
	return sqlstate.New(sqlstate.InvalidParameterValue, `time zone "%s" not recognized`, sqlstate.Excerpt([]byte(name)))
}

// fixed says that a zone has had one offset all the time.
func fixed(zone *time.Location, now time.Time) bool {
	start, end := now.In(zone).ZoneBounds()
	return start.IsZero() && end.IsZero()
}

// abbreviationAt is what an abbreviation meant in a zone at an instant: as it was last used there
// until then, or else as it was first used.
func abbreviationAt(zone *time.Location, abbreviation string, utc int64) int64 {
	at := Instant{N: utc}.Time().In(zone)
	for t := at; ; {
		name, offset := t.Zone()
		if name == abbreviation {
			return int64(offset)
		}
		start, _ := t.ZoneBounds()
		if start.IsZero() {
			break
		}
		t = start.Add(-time.Second)
	}
	for t := at; ; {
		name, offset := t.Zone()
		if name == abbreviation {
			return int64(offset)
		}
		if _, end := t.ZoneBounds(); end.IsZero() || end.Year() > 2100 {
			break
		} else {
			t = end
		}
	}
	return offsetAt(zone, utc)
}
