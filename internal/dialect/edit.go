package dialect

// TableEdit is what one ALTER TABLE changes.
type TableEdit struct {
	Table    string
	IfExists bool
	Changes  []Change
}

// Change is one action of an ALTER TABLE.
type Change struct{}

// EditTable applies a change that SQLite's ALTER TABLE lacks to a table's CREATE TABLE text, and
// gives the new text under newName.
func EditTable(createSQL, newName string, edit *TableEdit) (string, error) { return "", nil }

// CopyRows gives the INSERT that fills the table made by EditTable's text from the old table.
func CopyRows(createSQL, newName string, edit *TableEdit) (string, error) { return "", nil }

// Create gives the CREATE TABLE text for the query's columns, by name and type.
func (c *CreateAsStmt) Create(names []string, types []ParamType) (string, error) { return "", nil }
