package pgscript

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"skein/internal/oid"
)

// frontendMessage gives a message and the types of message that end its answer; nil if there is none of that name.
func frontendMessage(words []string) (pgproto3.FrontendMessage, []string) {
	arg := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	object := func() byte { return (arg(1) + "S")[0] }
	switch arg(0) {
	case "Query":
		return &pgproto3.Query{String: arg(1)}, []string{"ReadyForQuery"}
	case "Parse": // Parse name sql oid …
		m := &pgproto3.Parse{Name: arg(1), Query: arg(2)}
		for _, w := range words[min(3, len(words)):] {
			n, _ := strconv.Atoi(w)
			m.ParameterOIDs = append(m.ParameterOIDs, uint32(n))
		}
		return m, []string{"ParseComplete"}
	case "Bind": // Bind portal statement parameter …
		m := &pgproto3.Bind{DestinationPortal: arg(1), PreparedStatement: arg(2)}
		for _, p := range words[min(3, len(words)):] {
			m.Parameters = append(m.Parameters, []byte(p))
		}
		return m, []string{"BindComplete"}
	case "Describe":
		return &pgproto3.Describe{ObjectType: object(), Name: arg(2)}, []string{"RowDescription", "NoData"}
	case "Execute": // Execute portal limit
		n, _ := strconv.Atoi(arg(2))
		return &pgproto3.Execute{Portal: arg(1), MaxRows: uint32(n)},
			[]string{"CommandComplete", "PortalSuspended", "EmptyQueryResponse", "CopyInResponse"}
	case "Close":
		return &pgproto3.Close{ObjectType: object(), Name: arg(2)}, []string{"CloseComplete"}
	case "Sync":
		return &pgproto3.Sync{}, []string{"ReadyForQuery"}
	case "Flush":
		return &pgproto3.Flush{}, nil
	case "Terminate":
		return &pgproto3.Terminate{}, nil
	case "CopyData":
		return &pgproto3.CopyData{Data: []byte(arg(1))}, nil
	case "CopyDone": // of a simple query
		return &pgproto3.CopyDone{}, []string{"ReadyForQuery"}
	case "CopyEnd": // of an Execute
		return &pgproto3.CopyDone{}, []string{"CommandComplete"}
	case "CopyFail":
		return &pgproto3.CopyFail{Message: arg(1)}, []string{"ReadyForQuery"}
	}
	return nil, nil
}

// splitWords splits at spaces; a word may be a Go string literal.
func splitWords(line string) (words []string) {
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if prefix, err := strconv.QuotedPrefix(line); err == nil && prefix[0] != '\'' {
			word, _ := strconv.Unquote(prefix)
			words, line = append(words, word), line[len(prefix):]
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		words, line = append(words, word), rest
	}
	return words
}

// describe tells of a message what a reader of the script wants to know.
func describe(name string, m pgproto3.BackendMessage) string {
	switch m := m.(type) {
	case *pgproto3.ErrorResponse:
		return describeError(m)
	case *pgproto3.NoticeResponse:
		return describeError((*pgproto3.ErrorResponse)(m))
	case *pgproto3.ParameterStatus:
		return fmt.Sprintf("%s %s=%s", name, m.Name, m.Value)
	case *pgproto3.ReadyForQuery:
		return fmt.Sprintf("[%c]", m.TxStatus)
	case *pgproto3.CommandComplete:
		return string(m.CommandTag)
	case *pgproto3.RowDescription:
		var fields []string
		for _, f := range m.Fields {
			fields = append(fields, string(f.Name)+" "+typeName(f.DataTypeOID))
		}
		return "(" + strings.Join(fields, ", ") + ")"
	case *pgproto3.ParameterDescription:
		var types []string
		for _, t := range m.ParameterOIDs {
			types = append(types, typeName(t))
		}
		return name + " " + strings.Join(types, ", ")
	case *pgproto3.DataRow:
		var values []string
		for _, v := range m.Values {
			values = append(values, value(v))
		}
		return "| " + strings.Join(values, " | ")
	case *pgproto3.CopyData:
		return name + " " + strconv.Quote(string(m.Data))
	case *pgproto3.CopyInResponse:
		return fmt.Sprintf("%s %d %v", name, m.OverallFormat, m.ColumnFormatCodes)
	case *pgproto3.CopyOutResponse:
		return fmt.Sprintf("%s %d %v", name, m.OverallFormat, m.ColumnFormatCodes)
	}
	return name
}

func describeError(m *pgproto3.ErrorResponse) string {
	lines := []string{fmt.Sprintf("%s %s: %s", m.Severity, m.Code, m.Message)}
	for _, f := range [][2]string{
		{"detail", m.Detail}, {"schema", m.SchemaName}, {"table", m.TableName}, {"column", m.ColumnName}, {"constraint", m.ConstraintName},
	} {
		if f[1] != "" {
			lines = append(lines, "  "+f[0]+": "+f[1])
		}
	}
	return strings.Join(lines, "\n")
}

func typeName(t uint32) string {
	if known := oid.ByOID(oid.OID(t)); known != nil {
		return known.Name
	}
	return strconv.Itoa(int(t))
}

func value(v []byte) string {
	if v == nil {
		return "NULL"
	}
	if q := strconv.Quote(string(v)); len(q) != len(v)+2 {
		return q
	}
	return string(v)
}
