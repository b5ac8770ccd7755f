package pgwire

import (
	"bytes"
	"encoding/binary"

	"skein/internal/oid"
	"skein/internal/sqlstate"
)

const (
	maxDimensions = 6
	maxElements   = 1 << 27 // as PostgreSQL: more could not be allocated
)

// elementType is the type of an array's elements, or 0 for what is no array.
func elementType(t oid.OID) oid.OID {
	if known := oid.ByOID(t); known != nil {
		return known.Elem
	}
	return 0
}

// isVector: int2vector and oidvector are arrays whose text is numbers between spaces.
func isVector(t oid.OID) bool { return t == oid.Int2Vector || t == oid.OIDVector }

// array is an array taken apart. Its elements, in row-major order, are texts in stored form.
type array struct {
	sizes    []int
	lower    []int
	elements [][]byte // nil is NULL
}

func badArray(data []byte, detail string) *sqlstate.Error {
	return sqlstate.New(sqlstate.InvalidTextRepresentation, `malformed array literal: "%s"`, sqlstate.Excerpt(data)).WithDetail("%s", detail)
}

// decodeArrayText reads an array literal and gives it in canonical form, each element checked.
func decodeArrayText(t, elem oid.OID, data []byte, env *Env) (Value, error) {
	a, err := parseStoredArray(t, data)
	if err != nil {
		return Value{}, err
	}
	for i, e := range a.elements {
		v, err := Decode(elem, -1, TextFormat, e, env)
		if err != nil {
			return Value{}, err
		}
		a.elements[i] = elementText(elem, v)
	}
	return a.value(t), nil
}

// elementText is how a value stands in a stored array literal.
func elementText(elem oid.OID, v Value) []byte {
	switch v.Kind {
	case Null:
		return nil
	case Text:
		return v.Bytes
	}
	text, _ := appendText([]byte{}, elem, v, nil) // of a class that fits, it cannot fail
	return text
}

// appendArrayText prints elements whose stored text is not their wire text.
func appendArrayText(dst []byte, t oid.OID, stored []byte, env *Env) ([]byte, error) {
	a, err := parseArray(stored)
	if err != nil {
		return dst, err
	}
	for i, e := range a.elements {
		if e == nil {
			continue
		}
		if a.elements[i], err = Append([]byte{}, elementType(t), TextFormat, textValue(e), env); err != nil {
			return dst, err
		}
	}
	return a.append(dst), nil
}

func appendArrayBinary(dst []byte, t, elem oid.OID, stored []byte, env *Env) ([]byte, error) {
	a, err := parseStoredArray(t, stored)
	if err != nil {
		return dst, err
	}
	hasNull := uint32(0)
	for _, e := range a.elements {
		if e == nil {
			hasNull = 1
		}
	}
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(a.sizes)))
	dst = binary.BigEndian.AppendUint32(dst, hasNull)
	dst = binary.BigEndian.AppendUint32(dst, uint32(elem))
	for i, size := range a.sizes {
		dst = binary.BigEndian.AppendUint32(dst, uint32(size))
		dst = binary.BigEndian.AppendUint32(dst, uint32(int32(a.lower[i])))
	}
	for _, e := range a.elements {
		if dst, err = appendElement(dst, elem, e, env); err != nil {
			return dst[:start], err
		}
	}
	return dst, nil
}

func appendElement(dst []byte, elem oid.OID, text []byte, env *Env) ([]byte, error) {
	at := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, 1<<32-1)
	if text == nil {
		return dst, nil
	}
	out, err := Append(dst, elem, BinaryFormat, textValue(text), env)
	if err != nil {
		return dst, err
	}
	binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-4))
	return out, nil
}

func parseStoredArray(t oid.OID, stored []byte) (array, error) {
	if !isVector(t) {
		return parseArray(stored)
	}
	a := array{elements: bytes.Fields(stored)}
	if n := len(a.elements); n > 0 {
		a.sizes, a.lower = []int{n}, []int{0}
	}
	return a, nil
}

func decodeArrayBinary(t, elem oid.OID, data []byte, env *Env) (Value, error) {
	f := fields{rest: data}
	dimensions, flags, got := int(f.int32()), f.int32(), oid.OID(f.int32())
	if f.bad || dimensions < 0 || dimensions > maxDimensions || flags&^1 != 0 || isVector(t) && dimensions > 1 {
		return Value{}, badBinary(t)
	}
	if got != elem && !(isTextual(got) && isTextual(elem)) {
		return Value{}, sqlstate.New(sqlstate.DatatypeMismatch, "binary data has array element type %d (%s) instead of expected %d (%s)",
			got, typeName(got), elem, typeName(elem))
	}
	var a array
	total := 1
	for range dimensions {
		size, lower := int(f.int32()), int(f.int32())
		if size < 0 || size > maxElements/total {
			return Value{}, badBinary(t)
		}
		a.sizes, a.lower = append(a.sizes, size), append(a.lower, lower)
		if total *= size; size == 0 {
			break
		}
	}
	if dimensions == 0 || total == 0 {
		if f.bad {
			return Value{}, badBinary(t)
		}
		return a.value(t), nil
	}
	if f.bad || total > len(f.rest)/4 { // each element has at least its length
		return Value{}, badBinary(t)
	}
	a.elements = make([][]byte, total)
	for i := range a.elements {
		n := f.int32()
		if n == -1 && !isVector(t) {
			continue
		}
		raw := f.take(int(n))
		if f.bad {
			return Value{}, badBinary(t)
		}
		v, err := Decode(elem, -1, BinaryFormat, raw, env)
		if err != nil {
			return Value{}, err
		}
		a.elements[i] = elementText(elem, v)
	}
	if f.done() != nil {
		return Value{}, badBinary(t)
	}
	return a.value(t), nil
}

func isTextual(t oid.OID) bool {
	switch t {
	case oid.Text, oid.Varchar, oid.Bpchar, oid.Name, oid.Unknown:
		return true
	}
	return false
}

func (a *array) value(t oid.OID) Value {
	if isVector(t) {
		return textValue(bytes.Join(a.elements, []byte(" ")))
	}
	return textValue(a.append(nil))
}

// append prints the literal: bounds only where they are not from 1, quotes only where needed.
func (a *array) append(dst []byte) []byte {
	if len(a.elements) == 0 {
		return append(dst, "{}"...)
	}
	odd := false
	for _, l := range a.lower {
		odd = odd || l != 1
	}
	if odd {
		for i, l := range a.lower {
			dst = append(appendInt(append(dst, '['), int64(l)), ':')
			dst = append(appendInt(dst, int64(l+a.sizes[i]-1)), ']')
		}
		dst = append(dst, '=')
	}
	dst, _ = a.appendLevel(dst, 0, a.elements)
	return dst
}

func (a *array) appendLevel(dst []byte, level int, rest [][]byte) (text []byte, left [][]byte) {
	dst = append(dst, '{')
	for i := range a.sizes[level] {
		if i > 0 {
			dst = append(dst, ',')
		}
		if level+1 < len(a.sizes) {
			dst, rest = a.appendLevel(dst, level+1, rest)
			continue
		}
		dst = appendQuoted(dst, rest[0])
		rest = rest[1:]
	}
	return append(dst, '}'), rest
}

func appendQuoted(dst, element []byte) []byte {
	if element == nil {
		return append(dst, "NULL"...)
	}
	if len(element) > 0 && !bytes.ContainsAny(element, "{}\",\\ \t\n\r\v\f") && !bytes.EqualFold(element, []byte("null")) {
		return append(dst, element...)
	}
	dst = append(dst, '"')
	for _, c := range element {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
