package pgcatalog

import (
	"strconv"
	"strings"

	"skein/internal/oid"
)

// pgType is one row of pg_type.
type pgType struct {
	oid      oid.OID
	name     string
	len      int
	category byte
	kind     byte // typtype
	array    oid.OID
	elem     oid.OID
}

// baseTypes are PostgreSQL 15's types without their arrays: OID, name, length, category, typtype and
// the array type's OID. They are all listed, for drivers look up names of types that no column of
// Skein can have.
const baseTypes = `16 bool 1 B b 1000|17 bytea -1 U b 1001|18 char 1 Z b 1002|19 name 64 S b 1003|20 int8 8 N b 1016|21 int2 2 N b 1005
22 int2vector -1 A b 1006|23 int4 4 N b 1007|24 regproc 4 N b 1008|25 text -1 S b 1009|26 oid 4 N b 1028|27 tid 6 U b 1010|28 xid 4 U b 1011
29 cid 4 U b 1012|30 oidvector -1 A b 1013|114 json -1 U b 199|142 xml -1 U b 143|194 pg_node_tree -1 Z b 0|3361 pg_ndistinct -1 Z b 0
3402 pg_dependencies -1 Z b 0|5017 pg_mcv_list -1 Z b 0|32 pg_ddl_command 8 P p 0|5069 xid8 8 U b 271|600 point 16 G b 1017|601 lseg 32 G b 1018
602 path -1 G b 1019|603 box 32 G b 1020|604 polygon -1 G b 1027|628 line 24 G b 629|700 float4 4 N b 1021|701 float8 8 N b 1022
705 unknown -2 X p 0|718 circle 24 G b 719|790 money 8 N b 791|829 macaddr 6 U b 1040|869 inet -1 I b 1041|650 cidr -1 I b 651
774 macaddr8 8 U b 775|1033 aclitem 12 U b 1034|1042 bpchar -1 S b 1014|1043 varchar -1 S b 1015|1082 date 4 D b 1182|1083 time 8 D b 1183
1114 timestamp 8 D b 1115|1184 timestamptz 8 D b 1185|1186 interval 16 T b 1187|1266 timetz 12 D b 1270|1560 bit -1 V b 1561
1562 varbit -1 V b 1563|1700 numeric -1 N b 1231|1790 refcursor -1 U b 2201|2202 regprocedure 4 N b 2207|2203 regoper 4 N b 2208
2204 regoperator 4 N b 2209|2205 regclass 4 N b 2210|4191 regcollation 4 N b 4192|2206 regtype 4 N b 2211|4096 regrole 4 N b 4097
4089 regnamespace 4 N b 4090|2950 uuid 16 U b 2951|3220 pg_lsn 8 U b 3221|3614 tsvector -1 U b 3643|3642 gtsvector -1 U b 3644
3615 tsquery -1 U b 3645|3734 regconfig 4 N b 3735|3769 regdictionary 4 N b 3770|3802 jsonb -1 U b 3807|4072 jsonpath -1 U b 4073
2970 txid_snapshot -1 U b 2949|5038 pg_snapshot -1 U b 5039|3904 int4range -1 R r 3905|3906 numrange -1 R r 3907|3908 tsrange -1 R r 3909
3910 tstzrange -1 R r 3911|3912 daterange -1 R r 3913|3926 int8range -1 R r 3927|4451 int4multirange -1 R m 6150
4532 nummultirange -1 R m 6151|4533 tsmultirange -1 R m 6152|4534 tstzmultirange -1 R m 6153|4535 datemultirange -1 R m 6155
4536 int8multirange -1 R m 6157|2249 record -1 P p 2287|2275 cstring -2 P p 1263|2276 any 4 P p 0|2277 anyarray -1 P p 0|2278 void 4 P p 0
2279 trigger 4 P p 0|3838 event_trigger 4 P p 0|2280 language_handler 4 P p 0|2281 internal 8 P p 0|2283 anyelement 4 P p 0
2776 anynonarray 4 P p 0|3500 anyenum 4 P p 0|3115 fdw_handler 4 P p 0|325 index_am_handler 4 P p 0|3310 tsm_handler 4 P p 0
269 table_am_handler 4 P p 0|3831 anyrange -1 P p 0|5077 anycompatible 4 P p 0|5078 anycompatiblearray -1 P p 0
5079 anycompatiblenonarray 4 P p 0|5080 anycompatiblerange -1 P p 0|4537 anymultirange -1 P p 0|4538 anycompatiblemultirange -1 P p 0`

// pgTypes lists every type with its array; types and type names do not change after init.
var (
	pgTypes       []pgType
	pgTypesByOID  = map[oid.OID]*pgType{}
	pgTypesByName = map[string]*pgType{}
)

func init() {
	rows := strings.FieldsFunc(baseTypes, func(r rune) bool { return r == '|' || r == '\n' })
	for _, row := range rows {
		f := strings.Fields(row)
		n, _ := strconv.Atoi(f[0])
		length, _ := strconv.Atoi(f[2])
		array, _ := strconv.Atoi(f[5])
		t := pgType{oid.OID(n), f[1], length, f[3][0], f[4][0], oid.OID(array), 0}
		switch t.oid {
		case oid.Int2Vector:
			t.elem = oid.Int2
		case oid.OIDVector:
			t.elem = oid.OIDType
		case oid.Name:
			t.elem = oid.Char
		case 600, 601, 603, 628:
			t.elem = oid.Float8
		}
		pgTypes = append(pgTypes, t)
	}
	for _, t := range pgTypes {
		if t.array != 0 {
			kind, category := byte('b'), byte('A')
			if t.oid == oid.Record {
				kind, category = 'p', 'P'
			}
			pgTypes = append(pgTypes, pgType{t.array, "_" + t.name, -1, category, kind, 0, t.oid})
		}
	}
	for i := range pgTypes {
		t := &pgTypes[i]
		pgTypesByOID[t.oid], pgTypesByName[t.name] = t, t
	}
}

func typeByName(name string) *pgType { return pgTypesByName[name] }

// typeSpelling is format_type: the type's SQL name with its modifier.
func typeSpelling(o oid.OID, mod int32) string {
	if oid.ByOID(o) != nil {
		return oid.Format(o, mod)
	}
	t := pgTypesByOID[o]
	switch {
	case t == nil:
		return "???"
	case t.elem != 0 && t.category == 'A' && t.name[0] == '_':
		return typeSpelling(t.elem, mod) + "[]"
	case t.name == "bit" || t.name == "any":
		return `"` + t.name + `"`
	case t.name == "varbit":
		return "bit varying"
	}
	return t.name
}

// collatable types take part in collations; "C" is the one of name.
func collationOf(o oid.OID) oid.OID {
	t := pgTypesByOID[o]
	if t != nil && t.elem != 0 && t.category == 'A' {
		t = pgTypesByOID[t.elem]
	}
	switch {
	case t == nil:
		return 0
	case t.oid == oid.Name:
		return 950
	case t.oid == oid.Text || t.oid == oid.Varchar || t.oid == oid.Bpchar:
		return 100
	}
	return 0
}

// typeLayout gives typbyval, typalign and typstorage.
func (t *pgType) layout() (byval bool, align, storage byte) {
	switch t.len {
	case 1:
		return true, 'c', 'p'
	case 2:
		return true, 's', 'p'
	case 4:
		return true, 'i', 'p'
	case 8:
		return t.oid != 829 && t.oid != 774, 'd', 'p'
	case -2:
		return false, 'c', 'p'
	case -1:
		storage = 'x'
		if t.name == "numeric" || t.name == "inet" || t.name == "cidr" {
			storage = 'm'
		}
		if t.name == "int2vector" || t.name == "oidvector" {
			storage = 'p'
		}
		return false, 'i', storage
	}
	align = 'd'
	switch t.name {
	case "name", "uuid":
		align = 'c'
	case "tid":
		align = 's'
	case "macaddr", "aclitem":
		align = 'i'
	}
	return false, align, 'p'
}

// inOut names the type's text and binary functions as pg_type shows them.
func (t *pgType) inOut() (in, out, receive, send string) {
	switch {
	case t.category == 'A' && t.name[0] == '_':
		return "array_in", "array_out", "array_recv", "array_send"
	case t.kind == 'r':
		return "range_in", "range_out", "range_recv", "range_send"
	case t.kind == 'm':
		return "multirange_in", "multirange_out", "multirange_recv", "multirange_send"
	}
	switch t.name {
	case "date", "time", "timestamp", "timestamptz", "timetz", "numeric", "json", "jsonb", "uuid", "xml", "record", "interval":
		return t.name + "_in", t.name + "_out", t.name + "_recv", t.name + "_send"
	}
	return t.name + "in", t.name + "out", t.name + "recv", t.name + "send"
}
