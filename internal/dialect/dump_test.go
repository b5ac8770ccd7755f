package dialect

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

func TestDump(t *testing.T) {
	f := os.Getenv("DUMP")
	if f == "" {
		t.Skip()
	}
	b, _ := os.ReadFile(f)
	var all [][2]string
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	for _, q := range all {
		st, err := Parse(q[1])
		if err != nil {
			fmt.Printf("ERR %v\n    %s\n", err, q[1])
			continue
		}
		for _, s := range st {
			fmt.Printf("%d %s | %q\n", s.Kind, s.Tag, s.SQL)
		}
	}
}
