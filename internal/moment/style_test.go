package moment

import "testing"

// What PostgreSQL 15 says.
func TestIntervalStyles(t *testing.T) {
	for _, c := range []struct{ postgres, verbose, standard, iso string }{
		{"00:00:00", "@ 0", "0", "PT0S"},
		{"1 year 2 mons 3 days 04:05:06.7", "@ 1 year 2 mons 3 days 4 hours 5 mins 6.7 secs", "+1-2 +3 +4:05:06.7", "P1Y2M3DT4H5M6.7S"},
		{"-1 years -2 mons +3 days -04:05:06", "@ 1 year 2 mons -3 days 4 hours 5 mins 6 secs ago", "-1-2 +3 -4:05:06", "P-1Y-2M3DT-4H-5M-6S"},
		{"1 day -00:00:00.5", "@ 1 day -0.5 secs", "+0-0 +1 -0:00:00.5", "P1DT-0.5S"},
		{"-00:00:01", "@ 1 sec ago", "-0:00:01", "PT-1S"},
		{"1 year 2 mons", "@ 1 year 2 mons", "1-2", "P1Y2M"},
		{"-3 days -04:05:06", "@ 3 days 4 hours 5 mins 6 secs ago", "-3 4:05:06", "P-3DT-4H-5M-6S"},
		{"100:00:00", "@ 100 hours", "100:00:00", "PT100H"},
	} {
		i, err := ParseInterval([]byte(c.postgres))
		if err != nil {
			t.Fatal(c.postgres, err)
		}
		for style, want := range map[string]string{"": c.postgres, Postgres: c.postgres, PostgresVerbose: c.verbose, SQLStandard: c.standard, ISO8601: c.iso} {
			if got := string(i.AppendStyle(nil, style)); got != want {
				t.Errorf("%s in style %s: %s, want %s", c.postgres, style, got, want)
			}
			if back, err := ParseInterval(i.AppendStyle(nil, style)); style != SQLStandard && (err != nil || back != i) {
				t.Errorf("%s in style %s comes back as %v %v", c.postgres, style, back, err)
			}
		}
	}
}
