package oid

import "testing"

func TestDeclaredTypes(t *testing.T) {
	for _, c := range []struct {
		decl string
		typ  OID
		mod  int32
	}{
		{"integer", Int4, -1},
		{"INTEGER", Int8, -1}, // the rowid of a bigint key
		{"INT", Int4, -1},
		{"bigint", Int8, -1},
		{"varchar(20)", Varchar, 24},
		{"character varying(20)", Varchar, 24},
		{"VARCHAR", Varchar, -1},
		{"char", Bpchar, -1},
		{`"char"`, Char, -1},
		{"numeric_text(10,2)", Numeric, 10<<16 | 2 + 4},
		{"numeric(5)", Numeric, 5<<16 + 4},
		{"json_text", JSON, -1},
		{"name_text", Name, -1},
		{"_text", TextArray, -1},
		{"_text_text", TextArray, -1},
		{"_int4_text", Int4Array, -1},
		{"integer[]", Int4Array, -1},
		{"timestamp(3) with time zone", Timestamptz, 3},
		{"double  precision", Float8, -1},
		{"bigserial", Int8, -1},
		{"", Unspecified, -1},
		{"geometry", Unspecified, -1},
		{"varchar(", Unspecified, -1},
	} {
		if typ, mod := Declared(c.decl); typ != c.typ || mod != c.mod {
			t.Errorf("Declared(%q) = %d, %d; want %d, %d", c.decl, typ, mod, c.typ, c.mod)
		}
	}
}
