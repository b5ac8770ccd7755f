package pgcatalog

import (
	"encoding/json"
	"errors"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"skein/internal/sqlstate"
)

// jsonResult marks a function whose text result is JSON, jsonArgs one that asks whether an argument
// is. SQLite carries that as the subtype 'J', which its own JSON functions share.
const (
	jsonResult = 1 << (iota + 8)
	jsonArgs
	jsonFlags = jsonResult | jsonArgs
)

const jsonSubtype = 'J'

func jsonFunctions() []function {
	build := pure | nullable | jsonFlags
	return []function{
		{"json_build_object", 0, -1, build, jsonBuildObject(" : ")},
		{"jsonb_build_object", 0, -1, build, jsonBuildObject(": ")},
		{"json_build_array", 0, -1, build, jsonBuildArray},
		{"jsonb_build_array", 0, -1, build, jsonBuildArray},
		{"to_json", 1, 1, pure | jsonFlags, toJSON},
		{"to_jsonb", 1, 1, pure | jsonFlags, toJSON},
		{"row_to_json", 1, 1, pure | jsonFlags, toJSON},
		{"array_to_json", 1, 2, pure | jsonFlags, arrayToJSON},
		{"json_typeof", 1, 1, pure, jsonTypeof},
		{"jsonb_typeof", 1, 1, pure, jsonTypeof},
		{"jsonb_array_length", 1, 1, pure, jsonArrayLength},
		{"jsonb_pretty", 1, 1, pure, jsonbPretty},
		{"jsonb_set", 3, 4, pure | jsonResult, jsonbSet},
		{"json_strip_nulls", 1, 1, pure | jsonResult, jsonStripNulls},
		{"jsonb_strip_nulls", 1, 1, pure | jsonResult, jsonStripNulls},
		{"json_extract_path", 1, -1, pure | jsonResult, jsonExtractPath(false)},
		{"jsonb_extract_path", 1, -1, pure | jsonResult, jsonExtractPath(false)},
		{"json_extract_path_text", 1, -1, pure, jsonExtractPath(true)},
		{"jsonb_extract_path_text", 1, -1, pure, jsonExtractPath(true)},
		{"jsonb_contains", 2, 2, pure, jsonbContains},
		{"jsonb_exists", 2, 2, pure, jsonbExists},
		{"jsonb_exists_any", 2, 2, pure, jsonbExistsOf(false)},
		{"jsonb_exists_all", 2, 2, pure, jsonbExistsOf(true)},
		{"contains", 2, 2, pure, func(c *call) error { return c.contains(0, 1) }},
		{"contained", 2, 2, pure, func(c *call) error { return c.contains(1, 0) }},
		{"json_path", 2, 2, pure | jsonResult, jsonPath(false)},
		{"json_path_text", 2, 2, pure, jsonPath(true)},
		{"json_field_text", 2, 2, pure, jsonFieldText},
		{"jsonb_without", 2, 2, pure | jsonResult, jsonbWithout},
		{"jsonb_without_all", 2, 2, pure | jsonResult, jsonbWithoutAll},
		{"jsonb_cat", 2, 2, pure | jsonResult, jsonbCat},
		{"json_bool", 1, 1, pure | jsonResult, jsonBool},
		{"json_number", 1, 1, pure | jsonResult, jsonNumeric},
		{"json_time", 1, 1, pure | jsonResult, jsonTime},
		{"json_of", 1, 1, pure | jsonResult, func(c *call) error { return c.returnJSON(c.text(0)) }},
		{"cast_json", 1, 1, pure | jsonResult, castJSON},
		{"cast_jsonb", 1, 1, pure | jsonResult, castJSONB},
	}
}

// jsonBool makes JSON of a truth value.
func jsonBool(c *call) error {
	if c.arg[0].Type() == sqlite3.INTEGER {
		return c.returnJSON(strconv.FormatBool(c.arg[0].Int64() != 0))
	}
	return c.returnJSON(jsonOf(c.arg[0]))
}

// jsonNumeric makes a JSON number of a decimal.
func jsonNumeric(c *call) error {
	if s := c.text(0); looksDecimal(s) {
		return c.returnJSON(s)
	}
	return c.returnJSON(jsonOf(c.arg[0]))
}

// jsonTime spells a timestamp as ISO 8601 does, with the minutes of its offset.
func jsonTime(c *call) error {
	s := strings.Replace(c.text(0), " ", "T", 1)
	if i := strings.LastIndexAny(s, "+-"); i > strings.IndexByte(s, 'T') && len(s)-i == len("+00") {
		s += ":00"
	}
	return c.returnJSON(jsonString(s))
}

func resultJSON(ctx sqlite3.Context, s string) {
	ctx.ResultText(s)
	ctx.ResultSubtype(jsonSubtype)
}

func (c *call) returnJSON(s string) error {
	resultJSON(c.ctx, s)
	return nil
}

// jsonString spells s as a JSON string the way PostgreSQL does: only what must be escaped is.
func jsonString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch r {
		case '"':
			b.WriteString(`\"`)
		case '\\':
			b.WriteString(`\\`)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		case '\b':
			b.WriteString(`\b`)
		case '\f':
			b.WriteString(`\f`)
		default:
			if r < 0x20 {
				b.WriteString(`\u00`)
				b.WriteByte("0123456789abcdef"[r>>4])
				b.WriteByte("0123456789abcdef"[r&15])
				continue
			}
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// jsonOf gives a value as JSON. Booleans are integers here and come out as numbers, unless the
// caller knew better and passed JSON.
func jsonOf(v sqlite3.Value) string {
	switch v.Type() {
	case sqlite3.NULL:
		return "null"
	case sqlite3.INTEGER:
		return strconv.FormatInt(v.Int64(), 10)
	case sqlite3.FLOAT:
		if s := formatFloat(v.Float()); looksDecimal(s) {
			return s
		}
		return jsonString(formatFloat(v.Float()))
	case sqlite3.BLOB:
		return jsonString(byteaOut(v.RawBlob()))
	}
	if v.Subtype() == jsonSubtype {
		return v.Text()
	}
	return jsonString(v.Text())
}

func jsonBuildObject(colon string) func(*call) error {
	return func(c *call) error {
		if len(c.arg)%2 != 0 {
			return sqlstate.New(sqlstate.InvalidParameterValue, "argument list must have even number of elements")
		}
		var b strings.Builder
		b.WriteByte('{')
		for i := 0; i < len(c.arg); i += 2 {
			if c.isNull(i) {
				return sqlstate.New(sqlstate.InvalidParameterValue, "argument %d: key must not be null", i+1)
			}
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(jsonString(c.text(i)) + colon + jsonOf(c.arg[i+1]))
		}
		b.WriteByte('}')
		return c.returnJSON(b.String())
	}
}

func jsonBuildArray(c *call) error {
	parts := make([]string, len(c.arg))
	for i, a := range c.arg {
		parts[i] = jsonOf(a)
	}
	return c.returnJSON("[" + strings.Join(parts, ", ") + "]")
}

func toJSON(c *call) error { return c.returnJSON(jsonOf(c.arg[0])) }

func arrayToJSON(c *call) error {
	a, err := parseArray(c.text(0))
	if err != nil {
		return err
	}
	return c.returnJSON(arrayJSON(a))
}

func arrayJSON(a array) string {
	parts := make([]string, len(a.elements))
	for i, e := range a.elements {
		switch inner, err := parseArray(e.text); {
		case e.null:
			parts[i] = "null"
		case strings.HasPrefix(e.text, "{") && err == nil:
			parts[i] = arrayJSON(inner)
		case looksDecimal(e.text):
			parts[i] = e.text
		default:
			parts[i] = jsonString(e.text)
		}
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// maxJSONDepth bounds recursion over a document.
const maxJSONDepth = 1000

// jsonMember is a member of an object in the order of the text.
type jsonMember struct {
	key   string
	value any
}

// jsonObject keeps its members as jsonb orders them: by length of the key, then by bytes; of equal
// keys the last one stays.
type jsonObject []jsonMember

func (o jsonObject) get(key string) (any, bool) {
	for _, m := range o {
		if m.key == key {
			return m.value, true
		}
	}
	return nil, false
}

func (o jsonObject) normalize() jsonObject {
	sort.SliceStable(o, func(i, j int) bool {
		a, b := o[i].key, o[j].key
		if len(a) != len(b) {
			return len(a) < len(b)
		}
		return a < b
	})
	out := o[:0]
	for i, m := range o {
		if i+1 == len(o) || o[i+1].key != m.key {
			out = append(out, m)
		}
	}
	return out
}

// parseJSON reads a document into nil, bool, json.Number, string, []any and jsonObject.
func parseJSON(s string) (any, error) {
	if isJSON(s) { // Token alone would let some malformed text pass
		d := json.NewDecoder(strings.NewReader(s))
		d.UseNumber()
		if v, err := parseJSONValue(d, 0); err == nil {
			return v, nil
		}
	}
	return nil, sqlstate.New(sqlstate.InvalidTextRepresentation, "invalid input syntax for type json")
}

func parseJSONValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth > maxJSONDepth {
		return nil, errors.New("too deep")
	}
	if delim == '[' {
		list := []any{}
		for d.More() {
			v, err := parseJSONValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = d.Token()
		return list, err
	}
	object := jsonObject{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		v, err := parseJSONValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		name, _ := key.(string)
		object = append(object, jsonMember{name, v})
	}
	_, err = d.Token()
	return object.normalize(), err
}

// formatJSONB prints a document as PostgreSQL prints jsonb; indent < 0 means on one line.
func formatJSONB(b *strings.Builder, v any, indent int) {
	newline, inner := "", -1
	if indent >= 0 {
		inner = indent + 4
		newline = "\n" + strings.Repeat(" ", inner)
	}
	between := "," + newline
	if indent < 0 {
		between = ", "
	}
	end := strings.TrimSuffix(newline, "    ")
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case json.Number:
		b.WriteString(jsonNumber(v))
	case string:
		b.WriteString(jsonString(v))
	case []any:
		if len(v) == 0 {
			b.WriteString("[]")
			return
		}
		b.WriteString("[" + newline)
		for i, e := range v {
			if i > 0 {
				b.WriteString(between)
			}
			formatJSONB(b, e, inner)
		}
		b.WriteString(end + "]")
	case jsonObject:
		if len(v) == 0 {
			b.WriteString("{}")
			return
		}
		b.WriteString("{" + newline)
		for i, m := range v {
			if i > 0 {
				b.WriteString(between)
			}
			b.WriteString(jsonString(m.key) + ": ")
			formatJSONB(b, m.value, inner)
		}
		b.WriteString(end + "}")
	}
}

// jsonNumber spells a number as numeric does: jsonb keeps numerics, so 1e2 becomes 100.
func jsonNumber(n json.Number) string {
	if d, ok := parseDecimal(string(n)); ok {
		return formatDecimal(plain(d))
	}
	return string(n)
}

func jsonbText(v any) string {
	var b strings.Builder
	formatJSONB(&b, v, -1)
	return b.String()
}

func castJSON(c *call) error {
	s := c.text(0)
	if !isJSON(s) {
		return sqlstate.New(sqlstate.InvalidTextRepresentation, "invalid input syntax for type json")
	}
	return c.returnJSON(s)
}

func castJSONB(c *call) error {
	v, err := parseJSON(c.text(0))
	if err != nil {
		return err
	}
	return c.returnJSON(jsonbText(v))
}

func jsonTypeof(c *call) error {
	v, err := parseJSON(c.text(0))
	if err != nil {
		return err
	}
	switch v.(type) {
	case nil:
		return c.returnText("null")
	case bool:
		return c.returnText("boolean")
	case json.Number:
		return c.returnText("number")
	case string:
		return c.returnText("string")
	case []any:
		return c.returnText("array")
	}
	return c.returnText("object")
}

func jsonArrayLength(c *call) error {
	v, err := parseJSON(c.text(0))
	if err != nil {
		return err
	}
	list, ok := v.([]any)
	if !ok {
		return sqlstate.New(sqlstate.InvalidParameterValue, "cannot get array length of a non-array")
	}
	return c.returnInt(int64(len(list)))
}

func jsonbPretty(c *call) error {
	v, err := parseJSON(c.text(0))
	if err != nil {
		return err
	}
	var b strings.Builder
	formatJSONB(&b, v, 0)
	return c.returnText(b.String())
}

func jsonStripNulls(c *call) error {
	v, err := parseJSON(c.text(0))
	if err != nil {
		return err
	}
	return c.returnJSON(jsonbText(stripNulls(v)))
}

func stripNulls(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = stripNulls(v[i])
		}
	case jsonObject:
		out := jsonObject{}
		for _, m := range v {
			if m.value != nil {
				out = append(out, jsonMember{m.key, stripNulls(m.value)})
			}
		}
		return out
	}
	return v
}

func jsonExtractPath(asText bool) func(*call) error {
	return func(c *call) error {
		v, err := parseJSON(c.text(0))
		if err != nil {
			return err
		}
		for i := 1; i < len(c.arg); i++ {
			var ok bool
			if v, ok = jsonStep(v, c.text(i)); !ok {
				return nil
			}
		}
		if s, ok := v.(string); ok && asText {
			return c.returnText(s)
		}
		if !asText {
			return c.returnJSON(jsonbText(v))
		}
		if v == nil {
			return nil
		}
		return c.returnText(jsonbText(v))
	}
}

// jsonStep goes one step of a path down: a member's name or an element's index.
func jsonStep(v any, step string) (any, bool) {
	switch v := v.(type) {
	case jsonObject:
		return v.get(step)
	case []any:
		i, err := strconv.Atoi(step)
		if i < 0 {
			i += len(v)
		}
		if err == nil && i >= 0 && i < len(v) {
			return v[i], true
		}
	}
	return nil, false
}

func jsonbSet(c *call) error {
	v, err := parseJSON(c.text(0))
	if err != nil {
		return err
	}
	path, err := parseArray(c.text(1))
	if err != nil {
		return err
	}
	value, err := parseJSON(c.text(2))
	if err != nil {
		return err
	}
	create := len(c.arg) < 4 || c.arg[3].Bool()
	return c.returnJSON(jsonbText(jsonReplace(v, path.elements, value, create)))
}

func jsonReplace(v any, path []element, value any, create bool) any {
	if len(path) == 0 {
		return v
	}
	last := len(path) == 1
	switch v := v.(type) {
	case jsonObject:
		for i, m := range v {
			if m.key == path[0].text {
				if v[i].value = value; !last {
					v[i].value = jsonReplace(m.value, path[1:], value, create)
				}
				return v
			}
		}
		if last && create {
			return append(v, jsonMember{path[0].text, value}).normalize()
		}
	case []any:
		i, err := strconv.Atoi(path[0].text)
		if err != nil {
			return v
		}
		if i < 0 {
			i += len(v)
		}
		switch {
		case i >= 0 && i < len(v) && last:
			v[i] = value
		case i >= 0 && i < len(v):
			v[i] = jsonReplace(v[i], path[1:], value, create)
		case last && create && i < 0:
			return append([]any{value}, v...)
		case last && create:
			return append(v, value)
		}
		return v
	}
	return v
}

func jsonbContains(c *call) error {
	a, err := parseJSON(c.text(0))
	if err != nil {
		return err
	}
	b, err := parseJSON(c.text(1))
	if err != nil {
		return err
	}
	return c.returnBool(jsonIncludes(a, b))
}

// jsonIncludes is jsonb's @>: every member and element of b is somewhere in a.
func jsonIncludes(a, b any) bool {
	switch b := b.(type) {
	case jsonObject:
		object, ok := a.(jsonObject)
		if !ok {
			return false
		}
		for _, m := range b {
			v, found := object.get(m.key)
			if !found || !jsonIncludes(v, m.value) {
				return false
			}
		}
		return true
	case []any:
		list, ok := a.([]any)
		if !ok {
			return false
		}
		for _, e := range b {
			if !anyIncludes(list, e) {
				return false
			}
		}
		return true
	case json.Number:
		n, ok := a.(json.Number)
		return ok && compareNumericText([]byte(n), []byte(b)) == 0
	}
	if list, ok := a.([]any); ok {
		return anyIncludes(list, b)
	}
	if _, ok := a.(jsonObject); ok {
		return false
	}
	return a == b
}

func anyIncludes(list []any, e any) bool {
	for _, v := range list {
		if jsonIncludes(v, e) {
			return true
		}
	}
	return false
}

func jsonbExists(c *call) error {
	v, err := parseJSON(c.text(0))
	if err != nil {
		return err
	}
	return c.returnBool(jsonHas(v, c.text(1)))
}

// jsonHas says whether key is a key of the object, an element of the list, or the string itself.
func jsonHas(v any, key string) bool {
	switch v := v.(type) {
	case jsonObject:
		_, ok := v.get(key)
		return ok
	case []any:
		for _, e := range v {
			if e == key {
				return true
			}
		}
		return false
	}
	return v == key
}

// jsonbExistsOf is ?| and ?&: any or all of the keys.
func jsonbExistsOf(all bool) func(*call) error {
	return func(c *call) error {
		v, err := parseJSON(c.text(0))
		if err != nil {
			return err
		}
		keys, err := c.array(1)
		if err != nil {
			return err
		}
		for _, k := range keys.elements {
			if !k.null && jsonHas(v, k.text) != all {
				return c.returnBool(!all)
			}
		}
		return c.returnBool(all)
	}
}

// contains is @> on two arrays or two values of jsonb, which their spelling tells apart.
func (c *call) contains(whole, part int) error {
	if isJSON(c.text(whole)) && isJSON(c.text(part)) {
		a, err := parseJSON(c.text(whole))
		if err != nil {
			return err
		}
		b, err := parseJSON(c.text(part))
		if err != nil {
			return err
		}
		return c.returnBool(jsonIncludes(a, b))
	}
	a, err := c.array(whole)
	if err != nil {
		return err
	}
	b, err := c.array(part)
	if err != nil {
		return err
	}
	for _, e := range b.elements {
		if e.null || !slices.Contains(a.elements, e) {
			return c.returnBool(false)
		}
	}
	return c.returnBool(true)
}

// jsonPath is #> and #>>: what an array of keys and positions leads to.
func jsonPath(asText bool) func(*call) error {
	return func(c *call) error {
		v, err := parseJSON(c.text(0))
		if err != nil {
			return err
		}
		path, err := c.array(1)
		if err != nil {
			return err
		}
		for _, step := range path.elements {
			var ok bool
			if v, ok = jsonStep(v, step.text); !ok || step.null {
				return nil
			}
		}
		if s, ok := v.(string); ok && asText {
			return c.returnText(s)
		}
		if v == nil && asText {
			return nil
		}
		if asText {
			return c.returnText(jsonbText(v))
		}
		return c.returnJSON(jsonbText(v))
	}
}

// jsonFieldText is ->>: a member by its name, or an element by its index, as text.
func jsonFieldText(c *call) error {
	v, err := parseJSON(c.text(0))
	if err != nil {
		return err
	}
	if _, list := v.([]any); list != (c.arg[1].Type() == sqlite3.INTEGER) {
		return nil
	}
	switch v, _ = jsonStep(v, c.text(1)); v := v.(type) {
	case nil:
		return nil
	case string:
		return c.returnText(v)
	}
	return c.returnText(jsonbText(v))
}

// jsonbWithout is - of jsonb: without a member, or text element, of that name; or without the element at an index.
func jsonbWithout(c *call) error {
	v, err := parseJSON(c.text(0))
	if err != nil {
		return err
	}
	if c.arg[1].Type() == sqlite3.INTEGER {
		return c.withoutElement(v)
	}
	return c.withoutNames(v, c.text(1))
}

// jsonbWithoutAll is - of jsonb and an array of names.
func jsonbWithoutAll(c *call) error {
	v, err := parseJSON(c.text(0))
	if err != nil {
		return err
	}
	list, err := c.array(1)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(list.elements))
	for _, e := range list.elements {
		if !e.null {
			names = append(names, e.text)
		}
	}
	return c.withoutNames(v, names...)
}

func (c *call) withoutNames(v any, names ...string) error {
	switch x := v.(type) {
	case jsonObject:
		v = slices.DeleteFunc(x, func(m jsonMember) bool { return slices.Contains(names, m.key) })
	case []any:
		v = slices.DeleteFunc(x, func(e any) bool {
			s, ok := e.(string)
			return ok && slices.Contains(names, s)
		})
	default:
		return sqlstate.New(sqlstate.InvalidParameterValue, "cannot delete from scalar")
	}
	return c.returnJSON(jsonbText(v))
}

func (c *call) withoutElement(v any) error {
	list, ok := v.([]any)
	if !ok {
		return sqlstate.New(sqlstate.InvalidParameterValue, "cannot delete from object using integer index")
	}
	i := int(c.arg[1].Int64())
	if i < 0 {
		i += len(list)
	}
	if i >= 0 && i < len(list) {
		list = slices.Delete(list, i, i+1)
	}
	return c.returnJSON(jsonbText(list))
}

// jsonbCat is || of jsonb: objects are merged, anything else becomes one list.
func jsonbCat(c *call) error {
	a, err := parseJSON(c.text(0))
	if err != nil {
		return err
	}
	b, err := parseJSON(c.text(1))
	if err != nil {
		return err
	}
	x, isObject := a.(jsonObject)
	y, alsoObject := b.(jsonObject)
	if isObject && alsoObject {
		return c.returnJSON(jsonbText(append(slices.Clone(x), y...).normalize()))
	}
	return c.returnJSON(jsonbText(append(slices.Clone(jsonList(a)), jsonList(b)...)))
}

func jsonList(v any) []any {
	if list, ok := v.([]any); ok {
		return list
	}
	return []any{v}
}

func isJSON(s string) bool { return json.Valid([]byte(s)) }
