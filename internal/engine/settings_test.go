package engine

import (
	"errors"
	"strings"
	"testing"

	"skein/internal/sqlstate"
)

func TestARefusedQuantitySaysWhatWouldDo(t *testing.T) {
	for _, c := range []struct{ name, value, hint string }{
		{"skein.sync_timeout", "1 parsec", "0 to 2147483647 ms; its units are d, h, min, s, ms, us"},
		{"lock_timeout", "-1", "0 to 2147483647 ms"},
		{"idle_replication_slot_timeout", "99999999999", "0 to 2147483647 s"},
		{"max_slot_wal_keep_size", "-2", "0 to 2147483647 MB; its units are TB, GB, MB, kB, B; -1 is no limit"},
	} {
		_, err := checked(c.name, c.value)
		refused := new(sqlstate.Error)
		if !errors.As(err, &refused) || !strings.Contains(refused.Hint, c.hint) {
			t.Errorf("%s = %s: %v, hint %q", c.name, c.value, err, refused.Hint)
		}
	}
}
