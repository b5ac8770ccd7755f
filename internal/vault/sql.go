package vault

import (
	"fmt"
	"math"
	"strings"
)

// Kind says what happened to the row: insert, update or delete.
func (c *Change) Kind() string {
	switch {
	case c.Before == nil:
		return "insert"
	case c.After == nil:
		return "delete"
	}
	return "update"
}

// SQL is a statement that makes the change, in Skein's dialect.
func (c *Change) SQL() string {
	switch {
	case c.Before == nil:
		return c.insert()
	case c.After == nil:
		return "DELETE FROM " + name(c.Table.Name) + " WHERE " + c.Table.where(c.Before)
	}
	return c.update()
}

func (c *Change) insert() string {
	var columns, values []string
	for i, column := range c.Table.Columns {
		if v := c.After.Values[i]; v.Kind != Missing && !column.Generated {
			columns, values = append(columns, name(column.Name)), append(values, column.literal(v))
		}
	}
	return "INSERT INTO " + name(c.Table.Name) + " (" + strings.Join(columns, ", ") + ") VALUES (" + strings.Join(values, ", ") + ")"
}

// update sets the columns that differ.
func (c *Change) update() string {
	var set []string
	for i, column := range c.Table.Columns {
		if v := c.After.Values[i]; v.Kind != Missing && !column.Generated && !v.equal(c.Before.Values[i]) {
			set = append(set, name(column.Name)+" = "+column.literal(v))
		}
	}
	if len(set) == 0 {
		return "-- a row of " + c.Table.Name + " was written anew as it was"
	}
	return "UPDATE " + name(c.Table.Name) + " SET " + strings.Join(set, ", ") + " WHERE " + c.Table.where(c.Before)
}

// where finds a row: by the primary key, or in a table without one by the rowid.
func (t *Table) where(r *Row) string {
	if len(t.key) == 0 {
		return fmt.Sprintf("rowid = %d", r.Rowid)
	}
	var list []string
	for _, i := range t.key {
		c, v := t.Columns[i], r.Values[i]
		if v.Kind == Null {
			list = append(list, name(c.Name)+" IS NULL")
		} else {
			list = append(list, name(c.Name)+" = "+c.literal(v))
		}
	}
	return strings.Join(list, " AND ")
}

// literal writes a value so that it is read as the same in this column: SQLite keeps some types as others.
func (c Column) literal(v Value) string {
	declared := strings.ToLower(c.Type)
	switch {
	case v.Kind == Integer && (declared == "boolean" || declared == "bool"):
		if v.Int != 0 {
			return "TRUE"
		}
		return "FALSE"
	case v.Kind == Real && math.IsInf(v.Float, 0):
		return quote(strings.TrimPrefix(fmt.Sprint(v.Float), "+")+"inity") + "::float8"
	case v.Kind == Text && (strings.HasPrefix(declared, "timestamptz") || strings.Contains(declared, "with time zone") && strings.HasPrefix(declared, "timestamp")):
		return quote(inUTC(string(v.Bytes)))
	}
	return v.SQL()
}

// inUTC adds the zone to a time that is kept without it.
func inUTC(s string) string {
	if !strings.Contains(s, ":") { // infinity
		return s
	}
	if at, ok := strings.CutSuffix(s, " BC"); ok {
		return at + "+00 BC"
	}
	return s + "+00"
}
