package engine

import (
	"errors"
	"strings"
	"testing"

	"skein/internal/sqlstate"
)

func TestARefusedValueSaysWhatWouldDo(t *testing.T) {
	for _, c := range []struct{ name, value, hint string }{
		{"skein.sync_timeout", "1 parsec", "0 to 2147483647 ms; its units are d, h, min, s, ms, us"},
		{"lock_timeout", "-1", "0 to 2147483647 ms"},
		{"idle_replication_slot_timeout", "99999999999", "0 to 2147483647 s"},
		{"skein.max_staleness", "fresh", "0 to 2147483647 ms; its units are d, h, min, s, ms, us"},
		{"skein.read_consistency", "quorum", "eventual, session, bounded, strong"},
		{"skein.report_provenance", "maybe", "on, off"},
		{"skein.wait_for", "yesterday", "0/1A2B@7-5f3c9a1e"},
		{"skein.wait_for", "0/1A2B@7", "0/1A2B@7-5f3c9a1e"},
		{"skein.wait_for", "0/1A2B@-5f3c9a1e", "0/1A2B@7-5f3c9a1e"},
		{"skein.wait_for", "0/1A2B@7-5f3c9a", "0/1A2B@7-5f3c9a1e"},
		{"skein.wait_for", "@7-5f3c9a1e", "0/1A2B@7-5f3c9a1e"},
		{"skein.causality_key", strings.Repeat("k", 201), "at most 200 bytes"},
		{"skein.transaction_token", strings.Repeat("t", 201), "at most 200 bytes"},
		{"skein.read_consistencies", "strong", "skein.max_staleness, skein.optimistic_blocks, skein.read_consistency, skein.read_wait"},
		{"max_slot_wal_keep_size", "-2", "0 to 2147483647 MB; its units are TB, GB, MB, kB, B; -1 is no limit"},
	} {
		_, err := checked(c.name, c.value)
		refused := new(sqlstate.Error)
		if !errors.As(err, &refused) || !strings.Contains(refused.Hint, c.hint) {
			t.Errorf("%s = %s: %v, hint %q", c.name, c.value, err, refused.Hint)
		}
	}
}
