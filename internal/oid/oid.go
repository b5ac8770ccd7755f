// Package oid names PostgreSQL's built-in types: their OIDs, sizes and spellings, and which of them
// a declared SQLite column type stands for. The numbers are those of PostgreSQL's pg_type.dat.
package oid

import (
	"strconv"
	"strings"
)

// OID identifies a type (or another catalog object) on the wire. Zero means not known.
type OID uint32

// PostgreSQL's built-in types that Skein speaks.
const (
	Unspecified      OID = 0
	Bool             OID = 16
	Bytea            OID = 17
	Char             OID = 18 // "char", one byte
	Name             OID = 19
	Int8             OID = 20
	Int2             OID = 21
	Int2Vector       OID = 22
	Int4             OID = 23
	Regproc          OID = 24
	Text             OID = 25
	OIDType          OID = 26
	XID              OID = 28
	OIDVector        OID = 30
	JSON             OID = 114
	PgNodeTree       OID = 194
	JSONArray        OID = 199
	Float4           OID = 700
	Float8           OID = 701
	Unknown          OID = 705
	Money            OID = 790
	BoolArray        OID = 1000
	ByteaArray       OID = 1001
	CharArray        OID = 1002
	NameArray        OID = 1003
	Int2Array        OID = 1005
	Int4Array        OID = 1007
	TextArray        OID = 1009
	BpcharArray      OID = 1014
	VarcharArray     OID = 1015
	Int8Array        OID = 1016
	Float4Array      OID = 1021
	Float8Array      OID = 1022
	OIDArray         OID = 1028
	AclitemArray     OID = 1034
	Bpchar           OID = 1042
	Varchar          OID = 1043
	Date             OID = 1082
	Time             OID = 1083
	Timestamp        OID = 1114
	TimestampArray   OID = 1115
	DateArray        OID = 1182
	TimeArray        OID = 1183
	Timestamptz      OID = 1184
	TimestamptzArray OID = 1185
	Interval         OID = 1186
	IntervalArray    OID = 1187
	NumericArray     OID = 1231
	TimeTZ           OID = 1266
	TimeTZArray      OID = 1270
	Numeric          OID = 1700
	Regprocedure     OID = 2202
	Regoper          OID = 2203
	Regoperator      OID = 2204
	Regclass         OID = 2205
	Regtype          OID = 2206
	Record           OID = 2249
	Void             OID = 2278
	UUID             OID = 2950
	UUIDArray        OID = 2951
	PgLSN            OID = 3220
	JSONB            OID = 3802
	JSONBArray       OID = 3807
	Regnamespace     OID = 4089
	Regrole          OID = 4096
)

// Type describes one built-in type.
type Type struct {
	OID     OID
	Name    string // pg_type.typname: int4, varchar, _text
	SQLName string // format_type's spelling: integer, character varying, text[]
	Len     int16  // pg_type.typlen; -1 for variable length
	Elem    OID    // element type of an array, else 0
	Array   OID    // array type over this one, else 0
}

var types = []Type{
	{Bool, "bool", "boolean", 1, 0, BoolArray},
	{Bytea, "bytea", "bytea", -1, 0, ByteaArray},
	{Char, "char", `"char"`, 1, 0, CharArray},
	{Name, "name", "name", 64, 0, NameArray},
	{Int8, "int8", "bigint", 8, 0, Int8Array},
	{Int2, "int2", "smallint", 2, 0, Int2Array},
	{Int2Vector, "int2vector", "int2vector", -1, Int2, 0},
	{Int4, "int4", "integer", 4, 0, Int4Array},
	{Regproc, "regproc", "regproc", 4, 0, 0},
	{Text, "text", "text", -1, 0, TextArray},
	{OIDType, "oid", "oid", 4, 0, OIDArray},
	{XID, "xid", "xid", 4, 0, 0},
	{OIDVector, "oidvector", "oidvector", -1, OIDType, 0},
	{JSON, "json", "json", -1, 0, JSONArray},
	{PgNodeTree, "pg_node_tree", "pg_node_tree", -1, 0, 0},
	{JSONArray, "_json", "json[]", -1, JSON, 0},
	{Float4, "float4", "real", 4, 0, Float4Array},
	{Float8, "float8", "double precision", 8, 0, Float8Array},
	{Unknown, "unknown", "unknown", -2, 0, 0},
	{Money, "money", "money", 8, 0, 0},
	{BoolArray, "_bool", "boolean[]", -1, Bool, 0},
	{ByteaArray, "_bytea", "bytea[]", -1, Bytea, 0},
	{CharArray, "_char", `"char"[]`, -1, Char, 0},
	{NameArray, "_name", "name[]", -1, Name, 0},
	{Int2Array, "_int2", "smallint[]", -1, Int2, 0},
	{Int4Array, "_int4", "integer[]", -1, Int4, 0},
	{TextArray, "_text", "text[]", -1, Text, 0},
	{BpcharArray, "_bpchar", "character[]", -1, Bpchar, 0},
	{VarcharArray, "_varchar", "character varying[]", -1, Varchar, 0},
	{Int8Array, "_int8", "bigint[]", -1, Int8, 0},
	{Float4Array, "_float4", "real[]", -1, Float4, 0},
	{Float8Array, "_float8", "double precision[]", -1, Float8, 0},
	{OIDArray, "_oid", "oid[]", -1, OIDType, 0},
	{AclitemArray, "_aclitem", "aclitem[]", -1, 0, 0},
	{Bpchar, "bpchar", "character", -1, 0, BpcharArray},
	{Varchar, "varchar", "character varying", -1, 0, VarcharArray},
	{Date, "date", "date", 4, 0, DateArray},
	{Time, "time", "time without time zone", 8, 0, TimeArray},
	{Timestamp, "timestamp", "timestamp without time zone", 8, 0, TimestampArray},
	{TimestampArray, "_timestamp", "timestamp without time zone[]", -1, Timestamp, 0},
	{DateArray, "_date", "date[]", -1, Date, 0},
	{TimeArray, "_time", "time without time zone[]", -1, Time, 0},
	{Timestamptz, "timestamptz", "timestamp with time zone", 8, 0, TimestamptzArray},
	{TimestamptzArray, "_timestamptz", "timestamp with time zone[]", -1, Timestamptz, 0},
	{Interval, "interval", "interval", 16, 0, IntervalArray},
	{IntervalArray, "_interval", "interval[]", -1, Interval, 0},
	{NumericArray, "_numeric", "numeric[]", -1, Numeric, 0},
	{TimeTZ, "timetz", "time with time zone", 12, 0, TimeTZArray},
	{TimeTZArray, "_timetz", "time with time zone[]", -1, TimeTZ, 0},
	{Numeric, "numeric", "numeric", -1, 0, NumericArray},
	{Regprocedure, "regprocedure", "regprocedure", 4, 0, 0},
	{Regoper, "regoper", "regoper", 4, 0, 0},
	{Regoperator, "regoperator", "regoperator", 4, 0, 0},
	{Regclass, "regclass", "regclass", 4, 0, 0},
	{Regtype, "regtype", "regtype", 4, 0, 0},
	{Record, "record", "record", -1, 0, 0},
	{Void, "void", "void", 4, 0, 0},
	{UUID, "uuid", "uuid", 16, 0, UUIDArray},
	{UUIDArray, "_uuid", "uuid[]", -1, UUID, 0},
	{PgLSN, "pg_lsn", "pg_lsn", 8, 0, 0},
	{JSONB, "jsonb", "jsonb", -1, 0, JSONBArray},
	{JSONBArray, "_jsonb", "jsonb[]", -1, JSONB, 0},
	{Regnamespace, "regnamespace", "regnamespace", 4, 0, 0},
	{Regrole, "regrole", "regrole", 4, 0, 0},
}

// aliases are the spellings, besides Name and SQLName, that SQL text uses for a type. The serial
// types are integers with a generated default; SQLite's own spellings map to what they hold.
var aliases = map[string]OID{
	"int": Int4, "serial": Int4, "serial4": Int4, "mediumint": Int4,
	"bigserial": Int8, "serial8": Int8, "smallserial": Int2, "serial2": Int2, "tinyint": Int2,
	"float": Float8, "double": Float8, "decimal": Numeric, "dec": Numeric,
	"char": Bpchar, "nchar": Bpchar, "string": Text, "clob": Text, "blob": Bytea,
	"timestamp with time zone": Timestamptz, "time with time zone": TimeTZ, "datetime": Timestamp,
	"char varying": Varchar, "citext": Text,
}

var (
	byOID  = map[OID]*Type{}
	byName = map[string]*Type{}
)

func init() {
	for i := range types {
		t := &types[i]
		byOID[t.OID], byName[t.Name], byName[t.SQLName] = t, t, t
	}
	for name, o := range aliases {
		byName[name] = byOID[o]
	}
}

// All gives every built-in type, ordered by OID. The slice must not be changed.
func All() []Type { return types }

// ByOID finds a built-in type, or nil.
func ByOID(o OID) *Type { return byOID[o] }

// ByName finds a built-in type by any of its spellings without modifiers, in any case, or nil.
// "int[]" and "_int4" find the array type.
func ByName(name string) *Type {
	name = strings.ToLower(strings.Join(strings.Fields(name), " "))
	if t := byName[name]; t != nil {
		return t
	}
	if elem, ok := strings.CutSuffix(name, "[]"); ok {
		if t := ByName(elem); t != nil {
			return byOID[t.Array]
		}
	}
	return nil
}

// Declared reads a column's declared type, such as "varchar(20)" or "numeric(10,2)", as a type and
// PostgreSQL's atttypmod (-1 when there is none). An empty or foreign declaration gives Unspecified.
// Two spellings are Skein's own: upper-case INTEGER is the rowid of a bigint key, and the ending _text
// gives a type such as numeric SQLite's text affinity.
func Declared(decl string) (OID, int32) {
	name, args := decl, ""
	if i := strings.IndexByte(decl, '('); i >= 0 {
		if j := strings.IndexByte(decl[i:], ')'); j >= 0 {
			name, args = decl[:i]+" "+decl[i+j+1:], decl[i+1:i+j]
		}
	}
	name = strings.TrimSpace(name)
	if name == "INTEGER" {
		return Int8, -1
	}
	t := ByName(name)
	if t == nil {
		t = ByName(strings.TrimSuffix(strings.ToLower(name), "_text"))
	}
	if t == nil {
		return Unspecified, -1
	}
	return t.OID, Modifier(t.OID, args)
}

// Modifier encodes type arguments, such as "20" or "10,2", as PostgreSQL's atttypmod; -1 for none.
func Modifier(o OID, args string) int32 {
	first, second, _ := strings.Cut(args, ",")
	n, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || n < 0 || n > 1<<20 {
		return -1
	}
	switch o {
	case Varchar, Bpchar, VarcharArray, BpcharArray:
		return int32(n) + 4
	case Numeric, NumericArray:
		scale, _ := strconv.Atoi(strings.TrimSpace(second))
		return int32(n)<<16 | int32(scale&0x7ff) + 4
	case Timestamp, Timestamptz, Time, TimeTZ:
		return int32(n)
	}
	return -1
}

// Format spells a type with its modifier as PostgreSQL's format_type does: "character varying(20)".
func Format(o OID, mod int32) string {
	t := byOID[o]
	if t == nil {
		return "???"
	}
	if mod < 0 {
		return t.SQLName
	}
	switch o {
	case Varchar, Bpchar:
		return t.SQLName + "(" + strconv.Itoa(int(mod-4)) + ")"
	case Numeric:
		m := mod - 4
		return t.SQLName + "(" + strconv.Itoa(int(m>>16)) + "," + strconv.Itoa(int(m&0x7ff)) + ")"
	case Timestamp, Timestamptz, Time, TimeTZ:
		head, tail, _ := strings.Cut(t.SQLName, " ")
		return head + "(" + strconv.Itoa(int(mod)) + ") " + tail
	}
	return t.SQLName
}
