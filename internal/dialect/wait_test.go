package dialect

import (
	"errors"
	"testing"

	"skein/internal/sqlstate"
)

func TestWaitForLSN(t *testing.T) {
	for sql, want := range map[string]WaitStmt{
		"WAIT FOR LSN '0/3F'": {LSN: "0/3F", Mode: StandbyReplay},
		"wait for lsn '0/3@1-5f3c9a1e' with (mode 'STANDBY_FLUSH')":                          {LSN: "0/3@1-5f3c9a1e", Mode: StandbyFlush},
		"WAIT FOR LSN '0/3' WITH (MODE standby_write, TIMEOUT '100ms', NO_THROW)":            {LSN: "0/3", Mode: StandbyWrite, Timeout: "100ms", NoThrow: true},
		"WAIT FOR LSN '0/3' WITH (TIMEOUT 1000, MODE 'primary_flush')":                       {LSN: "0/3", Mode: PrimaryFlush, Timeout: "1000"},
		"WAIT FOR LSN '0/3' WITH (no_throw false, timeout -1)":                               {LSN: "0/3", Mode: StandbyReplay, Timeout: "-1"},
		"WAIT FOR LSN '0/3' WITH (no_throw 'on')":                                            {LSN: "0/3", Mode: StandbyReplay, NoThrow: true},
		"WAIT /* for what? */ FOR\n\tLSN E'0/3' -- no options":                               {LSN: "0/3", Mode: StandbyReplay},
		"WAIT FOR LSN '0/3' WITH (timeout 0.5, no_throw true, mode 'standby_replay')       ": {LSN: "0/3", Mode: StandbyReplay, Timeout: "0.5", NoThrow: true},
	} {
		st := only(t, sql)
		if st.Kind != Wait || st.Tag != "WAIT" || st.Wait == nil || *st.Wait != want || len(st.SQL) > 0 {
			t.Errorf("%s: %+v", sql, st.Wait)
		}
	}
	for sql, want := range map[string]string{
		"WAIT":                                               "syntax error at end of input",
		"WAIT FOR TIMEOUT 1000":                              `syntax error at or near "TIMEOUT"`,
		"WAIT FOR LSN":                                       "syntax error at end of input",
		"WAIT FOR LSN 0":                                     `syntax error at or near "0"`,
		"WAIT FOR LSN $1":                                    `syntax error at or near "$1"`,
		"WAIT FOR LSN '0/3' (TIMEOUT 1)":                     `syntax error at or near "("`,
		"WAIT FOR LSN '0/3' WITH ()":                         `syntax error at or near ")"`,
		"WAIT FOR LSN '0/3' WITH (NO_THROW":                  "syntax error at end of input",
		"WAIT FOR LSN '0/3' WITH (NO_THROW,)":                `syntax error at or near ")"`,
		"WAIT FOR LSN '0/3' WITH (NO_THROW) x":               `syntax error at or near "x"`,
		"WAIT FOR LSN '0/3' WITH (TIMEOUT)":                  "timeout requires a parameter",
		"WAIT FOR LSN '0/3' WITH (MODE)":                     "mode requires a parameter",
		"WAIT FOR LSN '0/3' WITH (unknown_param 'value')":    `option "unknown_param" not recognized`,
		"WAIT FOR LSN '0/3' WITH (no_throw maybe)":           "no_throw requires a Boolean value",
		"WAIT FOR LSN '0/3' WITH (MODE 'Invalid')":           `unrecognized value for WAIT option "mode": "Invalid"`,
		"WAIT FOR LSN '0/3' WITH (timeout '1', timeout '2')": "conflicting or redundant options",
		"WAIT FOR LSN '0/3' WITH (no_throw, NO_THROW)":       "conflicting or redundant options",
		"WAIT FOR LSN '0/3' WITH (mode standby_flush, timeout 1, mode standby_flush)": "conflicting or redundant options",
	} {
		_, err := Parse(sql)
		var e *sqlstate.Error
		if !errors.As(err, &e) || e.Message != want {
			t.Errorf("%s: %v, want %s", sql, err, want)
		}
	}
}
