package moment

import (
	"strings"
	"time"

	"skein/internal/sqlstate"
)

func unknownZone(name string) error {
	return sqlstate.New(sqlstate.InvalidParameterValue, `time zone "%s" not recognized`, sqlstate.Excerpt([]byte(name)))
}

// LoadZone finds a time zone by what AT TIME ZONE takes: a name, an abbreviation, or an offset.
func LoadZone(name string) (*time.Location, error) {
	switch strings.ToUpper(name) {
	case "", "UTC", "Z", "GMT", "ETC/UTC", "UCT", "ZULU":
		return time.UTC, nil
	}
	if name[0] == '+' || name[0] == '-' {
		p := datetimeParser{rest: []byte(name[1:]), hasTime: true}
		if err := p.parseOffset(name[0] == '-'); err != nil || len(p.rest) > 0 {
			return nil, unknownZone(name)
		}
		return time.FixedZone(name, int(p.offset)), nil
	}
	if offset, ok := abbreviations[strings.ToUpper(name)]; ok {
		return time.FixedZone(name, int(offset)*900), nil
	}
	if len(name) > 64 || strings.EqualFold(name, "local") {
		return nil, unknownZone(name)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, unknownZone(name)
	}
	return loc, nil
}
