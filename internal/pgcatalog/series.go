package pgcatalog

import (
	"errors"
	"math"
	"sort"
	"strconv"
	"time"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/sqlstate"
)

// Functions that give rows: table-valued functions, which are virtual tables with hidden columns for
// their arguments. Each has the column value; ordinality counts rows from 1.

// rowFunction describes one of them. SQLite hands the arguments to the first hidden columns, so those
// that only some callers ask for are hidden behind them: SELECT * shows what PostgreSQL shows.
type rowFunction struct {
	name    string
	columns string // the visible ones
	extra   string // hidden ones besides ordinality
	args    int
	need    int // arguments that must be given
	flags   int // direct, or 0
	open    func(cat *catalog, arg []sqlite3.Value) (rowSource, error)
}

// rowSource gives the rows of one call; next is called before each row.
type rowSource interface {
	next() bool
	column(ctx sqlite3.Context, n int)
}

var rowFunctions = []rowFunction{
	{"generate_series", "value", "", 3, 2, 0, openSeries},
	{"generate_subscripts", "value", "", 3, 1, 0, openSubscripts},
	{"unnest", "value", "value2, value3", 3, 1, 0, openUnnest},
	{"_pg_expandarray", "x, n", "", 1, 1, 0, openNumbered},
	{"regexp_split_to_table", "value", "", 3, 2, 0, openText(splitByPattern)},
	{"string_to_table", "value", "", 3, 2, 0, openText(splitByText)},
	{"json_array_elements", "value", "", 1, 1, 0, openJSONElements(false)},
	{"jsonb_array_elements", "value", "", 1, 1, 0, openJSONElements(false)},
	{"json_array_elements_text", "value", "", 1, 1, 0, openJSONElements(true)},
	{"jsonb_array_elements_text", "value", "", 1, 1, 0, openJSONElements(true)},
	{"json_each", "key text, value json", "", 1, 1, 0, openJSONMembers(false)},
	{"jsonb_each", "key text, value jsonb", "", 1, 1, 0, openJSONMembers(false)},
	{"json_each_text", "key text, value text", "", 1, 1, 0, openJSONMembers(true)},
	{"jsonb_each_text", "key text, value text", "", 1, 1, 0, openJSONMembers(true)},
	{"json_object_keys", "value", "", 1, 1, 0, openJSONKeys},
	{"jsonb_object_keys", "value", "", 1, 1, 0, openJSONKeys},
	{"pg_partition_ancestors", "relid", "", 1, 1, 0, openNothing},
	{"pg_partition_tree", "relid, parentrelid, isleaf, level", "", 1, 1, 0, openNothing},
	{"pg_options_to_table", "option_name, option_value", "", 1, 1, 0, openNothing},
	{"aclexplode", "grantor, grantee, privilege_type, is_grantable", "", 1, 1, 0, openNothing},
	{"pg_create_physical_replication_slot", "slot_name name_text, lsn pg_lsn_text", "", 3, 1, direct, openCreatedSlot},
	{"skein_verify", verifyColumns, "", 0, 0, direct, openVerify},
	{"skein_failover_check", failoverCheckColumns, "", 0, 0, direct, openFailoverCheck},
	{"pg_get_keywords", "word, catcode, barelabel, catdesc, baredesc", "", 0, 0, 0, openKeywords},
}

func registerSeries(cat *catalog) error {
	for i := range rowFunctions {
		if err := rowFunctions[i].register(cat); err != nil {
			return err
		}
	}
	return nil
}

func (f *rowFunction) register(cat *catalog) error {
	connect := func(db *sqlite3.Conn, _, _, _ string, _ ...string) (*rowTable, error) {
		visible := splitList(f.columns)
		extra := append(splitList(f.extra), "ordinality int8")
		hidden := make([]string, 0, f.args+len(extra))
		for i := range f.args {
			hidden = append(hidden, "_argument"+strconv.Itoa(i+1)) // no name that a query may mean
		}
		sql := "CREATE TABLE x(" + f.columns
		for _, name := range append(hidden, extra...) {
			sql += ", " + name + " HIDDEN"
		}
		risk := sqlite3.VTAB_INNOCUOUS
		if f.flags&direct != 0 {
			risk = sqlite3.VTAB_DIRECTONLY
		}
		if err := db.VTabConfig(risk); err != nil {
			return nil, err
		}
		return &rowTable{cat, f, len(visible), len(extra)}, db.DeclareVTab(sql + ")")
	}
	return createModule(cat.conn, f.name, connect)
}

// rowTable is a row function on one connection.
type rowTable struct {
	*catalog
	*rowFunction
	visible int // columns before the arguments
	extra   int // columns after them, ordinality the last
}

// BestIndex hands the arguments over in their order; a plan that lacks one of them is no plan.
func (t *rowTable) BestIndex(idx *sqlite3.IndexInfo) error {
	given := make([]int, t.args)
	for i, c := range idx.Constraint {
		n := c.Column - t.visible
		if n < 0 || n >= t.args || c.Op != sqlite3.INDEX_CONSTRAINT_EQ {
			continue
		}
		if !c.Usable {
			return sqlite3.CONSTRAINT
		}
		given[n] = i + 1
	}
	next := 1
	for n, i := range given {
		if i == 0 {
			break
		}
		idx.ConstraintUsage[i-1] = sqlite3.IndexConstraintUsage{ArgvIndex: next, Omit: true}
		next = n + 2
	}
	idx.EstimatedCost, idx.EstimatedRows = 10, 20
	return nil
}

func (t *rowTable) Open() (sqlite3.VTabCursor, error) { return &rowCursor{rowTable: t}, nil }

type rowCursor struct {
	*rowTable
	source rowSource
	row    int64
	more   bool
}

func (c *rowCursor) Filter(_ int, _ string, arg ...sqlite3.Value) error {
	if len(arg) < c.need {
		return c.fault(sqlstate.New(sqlstate.UndefinedFunction, "function %s with %d arguments does not exist", c.name, len(arg)))
	}
	c.row, c.more, c.source = 0, false, nil
	for _, a := range arg[:min(c.need, len(arg))] {
		if a.Type() == sqlite3.NULL && c.need != 1 {
			return nil
		}
	}
	var err error
	if c.source, err = c.open(c.catalog, arg); err != nil {
		return c.fault(err)
	}
	return c.Next()
}

// fault hands the exact error to the session.
func (c *rowCursor) fault(err error) error {
	if e, ok := err.(*sqlstate.Error); ok {
		c.sess().Fail(e)
		return errors.New(e.Message)
	}
	return err
}

func (c *rowCursor) Next() error {
	c.row++
	c.more = c.source.next()
	if c.row&0xfff == 0 && c.conn.GetInterrupt().Err() != nil {
		return sqlite3.INTERRUPT
	}
	return nil
}

func (c *rowCursor) EOF() bool             { return !c.more }
func (c *rowCursor) RowID() (int64, error) { return c.row, nil }

func (c *rowCursor) Column(ctx sqlite3.Context, n int) error {
	switch behind := n - c.visible - c.args; {
	case n < c.visible:
		c.source.column(ctx, n)
	case behind == c.extra-1:
		ctx.ResultInt64(c.row)
	case behind >= 0:
		c.source.column(ctx, c.visible+behind)
	}
	return nil
}

// openSeries is generate_series over integers, decimals or timestamps.
func openSeries(cat *catalog, arg []sqlite3.Value) (rowSource, error) {
	if arg[0].Type() == sqlite3.TEXT && !looksDecimal(arg[0].Text()) {
		return openTimeSeries(arg)
	}
	for _, a := range arg {
		if a.Type() == sqlite3.NULL {
			return &elementRows{}, nil
		}
	}
	s := &intSeries{step: 1}
	for i, p := range []*int64{&s.at, &s.stop, &s.step} {
		if i < len(arg) {
			n, err := toInt(arg[i], "bigint")
			if err != nil {
				return nil, err
			}
			*p = n
		}
	}
	if s.step == 0 {
		return nil, sqlstate.New(sqlstate.InvalidParameterValue, "step size cannot equal zero")
	}
	return s, nil
}

type intSeries struct {
	at, stop, step int64
	started, done  bool
}

func (s *intSeries) next() bool {
	if s.started {
		if s.done || s.step > 0 && s.at > math.MaxInt64-s.step || s.step < 0 && s.at < math.MinInt64-s.step {
			return false
		}
		s.at += s.step
	}
	s.started = true
	s.done = s.step > 0 && s.at > s.stop || s.step < 0 && s.at < s.stop
	return !s.done
}

func (s *intSeries) column(ctx sqlite3.Context, _ int) { ctx.ResultInt64(s.at) }

type timeSeries struct {
	at, stop time.Time
	step     interval
	back     bool
	started  bool
}

func openTimeSeries(arg []sqlite3.Value) (rowSource, error) {
	if len(arg) < 3 {
		return nil, sqlstate.New(sqlstate.UndefinedFunction, "function generate_series(timestamp, timestamp) does not exist")
	}
	from, to := momentOf(arg[0]), momentOf(arg[1])
	step, ok := parseInterval(arg[2].Text())
	if !isPoint(from.kind) || !isPoint(to.kind) || !ok || from.special+to.special != "" {
		return nil, sqlstate.New(sqlstate.InvalidDatetimeFormat, "invalid arguments of generate_series")
	}
	if step == (interval{}) {
		return nil, sqlstate.New(sqlstate.InvalidParameterValue, "step size cannot equal zero")
	}
	return &timeSeries{at: from.t, stop: to.t, step: step, back: step.seconds() < 0}, nil
}

func (s *timeSeries) next() bool {
	if s.started {
		s.at = s.step.addTo(s.at)
	}
	s.started = true
	if s.back {
		return !s.at.Before(s.stop)
	}
	return !s.at.After(s.stop)
}

func (s *timeSeries) column(ctx sqlite3.Context, _ int) { ctx.ResultText(formatTimestamp(s.at)) }

func openSubscripts(_ *catalog, arg []sqlite3.Value) (rowSource, error) {
	a, err := arrayArgument(arg[0])
	if err != nil {
		return nil, err
	}
	if len(arg) > 1 && arg[1].Int64() != 1 {
		return &elementRows{}, nil
	}
	return &intSeries{at: int64(a.low), stop: int64(a.low + len(a.elements) - 1), step: 1}, nil
}

func arrayArgument(v sqlite3.Value) (array, error) {
	if v.Type() == sqlite3.NULL {
		return array{}, nil
	}
	return parseArray(v.Text())
}

// elementRows walks arrays side by side; the shorter ones end in NULLs.
type elementRows struct {
	arrays   []array
	at       int
	length   int
	numbered bool // the second column is the element's number
}

func openUnnest(_ *catalog, arg []sqlite3.Value) (rowSource, error) {
	rows := &elementRows{at: -1}
	for _, v := range arg {
		a, err := arrayArgument(v)
		if err != nil {
			return nil, err
		}
		a.elements = flatten(a.elements)
		rows.arrays = append(rows.arrays, a)
		rows.length = max(rows.length, len(a.elements))
	}
	return rows, nil
}

// openNumbered is information_schema._pg_expandarray.
func openNumbered(_ *catalog, arg []sqlite3.Value) (rowSource, error) {
	a, err := arrayArgument(arg[0])
	return &elementRows{arrays: []array{a}, at: -1, length: len(a.elements), numbered: true}, err
}

// flatten unfolds nested arrays, as unnest does.
func flatten(elements []element) []element {
	if len(elements) == 0 || len(elements[0].text) == 0 || elements[0].text[0] != '{' {
		return elements
	}
	var out []element
	for _, e := range elements {
		inner, err := parseArray(e.text)
		if err != nil {
			return elements
		}
		out = append(out, flatten(inner.elements)...)
	}
	return out
}

func (r *elementRows) next() bool {
	r.at++
	return r.at < r.length
}

func (r *elementRows) column(ctx sqlite3.Context, n int) {
	switch {
	case r.numbered && n == 1:
		ctx.ResultInt64(int64(r.at + 1))
	case n < len(r.arrays) && r.at < len(r.arrays[n].elements):
		setElement(ctx, r.arrays[n].elements[r.at])
	}
}

// openText makes rows of the pieces that a text is split into.
func openText(split func(*call) (array, error)) func(*catalog, []sqlite3.Value) (rowSource, error) {
	return func(cat *catalog, arg []sqlite3.Value) (rowSource, error) {
		a, err := split(&call{catalog: cat, arg: arg})
		if err != nil {
			return nil, err
		}
		return &elementRows{arrays: []array{a}, at: -1, length: len(a.elements)}, nil
	}
}

// jsonRows gives a list of documents.
type jsonRows struct {
	values []any
	asText bool
	at     int
}

func (r *jsonRows) next() bool {
	r.at++
	return r.at < len(r.values)
}

func (r *jsonRows) column(ctx sqlite3.Context, _ int) {
	v := r.values[r.at]
	if s, ok := v.(string); ok && r.asText {
		ctx.ResultText(s)
		return
	}
	if v != nil || !r.asText {
		ctx.ResultText(jsonbText(v))
	}
}

func openJSONElements(asText bool) func(*catalog, []sqlite3.Value) (rowSource, error) {
	return func(_ *catalog, arg []sqlite3.Value) (rowSource, error) {
		rows := &jsonRows{asText: asText, at: -1}
		if arg[0].Type() == sqlite3.NULL {
			return rows, nil
		}
		v, err := parseJSON(arg[0].Text())
		if err != nil {
			return nil, err
		}
		list, ok := v.([]any)
		if !ok {
			return nil, sqlstate.New(sqlstate.InvalidParameterValue, "cannot extract elements from a non-array")
		}
		rows.values = list
		return rows, nil
	}
}

// jsonMemberRows gives the members of an object, each with its name. They stand in for SQLite's tables of these names, which have other columns.
type jsonMemberRows struct {
	keys []string
	jsonRows
}

func (r *jsonMemberRows) column(ctx sqlite3.Context, n int) {
	if n == 0 {
		ctx.ResultText(r.keys[r.at])
		return
	}
	r.jsonRows.column(ctx, n)
}

func openJSONMembers(asText bool) func(*catalog, []sqlite3.Value) (rowSource, error) {
	return func(_ *catalog, arg []sqlite3.Value) (rowSource, error) {
		rows := &jsonMemberRows{jsonRows: jsonRows{asText: asText, at: -1}}
		object, err := objectOf(arg[0], "json_each")
		for _, m := range object {
			rows.keys, rows.values = append(rows.keys, m.key), append(rows.values, m.value)
		}
		return rows, err
	}
}

// objectOf gives the object that a function is called on; NULL has no members.
func objectOf(v sqlite3.Value, function string) (jsonObject, error) {
	if v.Type() == sqlite3.NULL {
		return nil, nil
	}
	parsed, err := parseJSON(v.Text())
	if err != nil {
		return nil, err
	}
	object, ok := parsed.(jsonObject)
	if !ok {
		return nil, sqlstate.New(sqlstate.InvalidParameterValue, "cannot call %s on a non-object", function)
	}
	return object, nil
}

func openJSONKeys(_ *catalog, arg []sqlite3.Value) (rowSource, error) {
	rows := &jsonRows{asText: true, at: -1}
	object, err := objectOf(arg[0], "json_object_keys")
	for _, m := range object {
		rows.values = append(rows.values, m.key)
	}
	return rows, err
}

// openNothing is for functions about what Skein does not have: partitions, access lists.
func openNothing(*catalog, []sqlite3.Value) (rowSource, error) { return &elementRows{}, nil }

// keywordRows is pg_get_keywords for the words that must be quoted.
type keywordRows struct {
	words []string
	at    int
}

func openKeywords(*catalog, []sqlite3.Value) (rowSource, error) {
	rows := &keywordRows{at: -1}
	for w := range reserved {
		rows.words = append(rows.words, w)
	}
	sort.Strings(rows.words)
	return rows, nil
}

func (r *keywordRows) next() bool {
	r.at++
	return r.at < len(r.words)
}

func (r *keywordRows) column(ctx sqlite3.Context, n int) {
	ctx.ResultText([]string{r.words[r.at], "R", "0", "reserved", "requires AS"}[min(n, 4)])
}
