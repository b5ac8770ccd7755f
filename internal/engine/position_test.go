package engine

import "testing"

func FuzzPosition(f *testing.F) {
	for _, s := range []string{"0/1A2B@7-5f3c9a1e", "0/1A2B", "FFFFFFFF/FFFFFFFF@18446744073709551615-ffffffff", "0/1A2B@7", "@", "0/1@-1-00000000", "/@0-00000000", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePosition(s)
		if err != nil {
			return
		}
		text := p.String()
		if p.bare {
			text = p.LSN.PgLSN()
		}
		again, err := parsePosition(text)
		if err != nil || again != p {
			t.Errorf("%q is %+v, but %q is %+v: %v", s, p, text, again, err)
		}
	})
}

func FuzzWaitTimeout(f *testing.F) {
	for _, s := range []string{"", "100", "0.1s", "1d", "-1", "99999999999", "5 min", "..", "1e3", "-", "2147483647"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := waitTimeout(s); d < 0 || err != nil && d != 0 {
			t.Errorf("%q is %v, %v", s, d, err)
		}
	})
}
