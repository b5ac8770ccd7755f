package pgcatalog

import (
	"bytes"
	"cmp"
	"math/big"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/history"
	"skein/internal/sqlstate"
)

// Values of type pg_lsn: text such as 0/1A2B.

// compareLSNs is the collation "pg_lsn": positions by value, anything else after them by bytes.
func compareLSNs(a, b []byte) int {
	x, errX := history.ParseLSN(string(a))
	y, errY := history.ParseLSN(string(b))
	switch {
	case errX == nil && errY == nil:
		return cmp.Compare(x, y)
	case errX == nil:
		return -1
	case errY == nil:
		return 1
	}
	return bytes.Compare(a, b)
}

// lsn gives argument i as a position.
func (c *call) lsn(i int) (history.LSN, error) {
	l, err := history.ParseLSN(c.text(i))
	if err != nil {
		return 0, badText("pg_lsn", c.text(i))
	}
	return l, nil
}

func castLSN(c *call) error {
	l, err := c.lsn(0)
	if err != nil {
		return err
	}
	return c.returnText(l.PgLSN())
}

func lsnDiff(c *call) error {
	a, err := c.lsn(0)
	if err != nil {
		return err
	}
	b, err := c.lsn(1)
	if err != nil {
		return err
	}
	return c.returnText(new(big.Int).Sub(bigLSN(a), bigLSN(b)).String())
}

func bigLSN(l history.LSN) *big.Int { return new(big.Int).SetUint64(uint64(l)) }

// addLSN is pg_lsn + numeric, either way around.
func addLSN(c *call) error {
	if _, err := c.lsn(0); err != nil {
		c.arg[0], c.arg[1] = c.arg[1], c.arg[0]
	}
	return c.moveLSN(1)
}

// subtractLSN is pg_lsn - pg_lsn, a number, or pg_lsn - numeric, a position.
func subtractLSN(c *call) error {
	if strings.Contains(c.text(1), "/") {
		return lsnDiff(c)
	}
	return c.moveLSN(-1)
}

func (c *call) moveLSN(sign int) error {
	at, err := c.lsn(0)
	if err != nil {
		return err
	}
	d, err := toDecimal(c.arg[1])
	if err != nil {
		return err
	}
	by, ok := new(big.Int).SetString(formatDecimal(roundTo(d, 0)), 10)
	if !ok {
		return badText("numeric", c.text(1))
	}
	if sign < 0 {
		by.Neg(by)
	}
	if sum := by.Add(by, bigLSN(at)); sum.IsUint64() {
		return c.returnText(history.LSN(sum.Uint64()).PgLSN())
	}
	return sqlstate.New(sqlstate.NumericOutOfRange, "pg_lsn out of range")
}

// extremeText is greatest and least by a collation; NULLs are left out.
func extremeText(compare func(a, b []byte) int, want int) func(*call) error {
	return func(c *call) error {
		best := -1
		for i, a := range c.arg {
			if a.Type() != sqlite3.NULL && (best < 0 || compare([]byte(a.Text()), []byte(c.arg[best].Text())) == want) {
				best = i
			}
		}
		if best < 0 {
			return nil
		}
		return c.returnArg(best)
	}
}
