package shell

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// verified is a node's answer: one row per result, which is its last but one column.
func verified(results ...string) []pgproto3.BackendMessage {
	var fields []pgproto3.FieldDescription
	for _, name := range []string{"node", "database", "lsn", "pages", "damaged", "repaired", "result", "detail"} {
		fields = append(fields, pgproto3.FieldDescription{Name: []byte(name), DataTypeOID: 25})
	}
	messages := []pgproto3.BackendMessage{&pgproto3.RowDescription{Fields: fields}}
	for _, r := range results {
		row := &pgproto3.DataRow{}
		for range fields {
			row.Values = append(row.Values, []byte("x"))
		}
		row.Values[6], row.Values[7] = []byte(r), nil
		messages = append(messages, row)
	}
	return append(messages, &pgproto3.CommandComplete{CommandTag: []byte("SELECT")})
}

func TestVerify(t *testing.T) {
	for _, test := range []struct {
		name    string
		results []string
		want    error
	}{
		{"all is well", []string{"ok", "ok"}, nil},
		{"a page was repaired", []string{"ok", "repaired"}, nil},
		{"a page is damaged", []string{"damaged", "ok"}, ErrNotVerified},
		{"databases differ", []string{"ok", "different"}, ErrNotVerified},
		{"a node is away", []string{"ok", "unreachable"}, ErrNotVerified},
		{"a word of a later version", []string{"ok", "odd"}, ErrNotVerified},
	} {
		t.Run(test.name, func(t *testing.T) {
			address := serve(t, map[string][]pgproto3.BackendMessage{verifyQuery: verified(test.results...)})
			var out bytes.Buffer
			err := Verify(t.Context(), Options{ConnString: address, Out: &out, Err: io.Discard})
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			for _, r := range test.results {
				if !strings.Contains(out.String(), r) {
					t.Errorf("%q is not shown in\n%s", r, &out)
				}
			}
		})
	}
}

func TestVerifyOfANodeThatRefuses(t *testing.T) {
	address := serve(t, map[string][]pgproto3.BackendMessage{
		verifyQuery: {&pgproto3.ErrorResponse{Severity: "ERROR", Code: "55000", Message: "no part in replication"}},
	})
	var errOut bytes.Buffer
	err := Verify(t.Context(), Options{ConnString: address, Out: io.Discard, Err: &errOut})
	if !errors.Is(err, ErrFailed) || !strings.Contains(errOut.String(), "no part in replication") {
		t.Errorf("error %v, shown %q", err, &errOut)
	}
}
