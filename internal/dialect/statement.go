package dialect

import "skein/internal/oid"

// Kind says what a statement is, and with it who runs it: SQLite, or the engine by itself.
type Kind int

// The kinds of statements. The operand field that a kind fills is named beside it.
const (
	Select  Kind = iota + 1 // also VALUES, TABLE, WITH … SELECT
	Insert                  // Table
	Update                  // Table
	Delete                  // Table
	Explain                 // Explain; SQL is SQLite's EXPLAIN QUERY PLAN
	DDL                     // CREATE, ALTER, DROP that SQLite runs as written in SQL; Table where there is one

	Begin          // Txn
	Commit         // Txn (Chain)
	Rollback       // Txn (Chain)
	Savepoint      // Name
	Release        // Name
	RollbackTo     // Name
	SetTransaction // Txn; SET TRANSACTION and, with Txn.Session, SET SESSION CHARACTERISTICS
	SetConstraints // Names (empty: ALL), Deferred

	Set   // Set
	Reset // Set (Name "all" for RESET ALL)
	Show  // Set (Name "all" for SHOW ALL)

	Copy          // Copy, Table
	Prepare       // Prepare
	Execute       // Prepare (Name); SQL, if any, is one SELECT of the arguments
	Deallocate    // Name ("" for ALL)
	Discard       // Name: ALL, PLANS, SEQUENCES or TEMP
	DeclareCursor // Cursor
	Fetch         // Cursor
	Move          // Cursor
	CloseCursor   // Name ("" for ALL)

	Listen   // Name
	Unlisten // Name ("" for *)
	Notify   // Name, Payload

	Lock       // Tables, Name is the lock mode in upper case
	Truncate   // Tables; SQL has one DELETE for each
	Vacuum     // Vacuum, Tables
	Analyze    // Tables; SQL runs in SQLite
	Reindex    // Tables; SQL runs in SQLite
	Checkpoint // no operands
	Comment    // Comment

	CreateDatabase // Database
	AlterDatabase  // Database, Set for ALTER DATABASE … SET
	DropDatabase   // Database
	AlterSystem    // Set
	CreateRole     // Role
	AlterRole      // Role, Set for ALTER ROLE … SET, with Role.Database for IN DATABASE
	DropRole       // Names, IfExists
	Grant          // no operands: accepted and without effect
	Revoke         // no operands: accepted and without effect
	CreateSchema   // Name, IfExists means IF NOT EXISTS
	DropSchema     // Names, IfExists

	RenameIndex   // Names: the index, and what it is to be called; IfExists
	AlterRebuild  // Rebuild: a change of a table that SQLite's ALTER TABLE lacks
	CreateTableAs // CreateAs, Table: CREATE TABLE … AS and SELECT … INTO
	Pragma        // one of SQLite's read-only pragmas; SQL
	Wait          // Wait: WAIT FOR LSN
	NoOp          // accepted and without effect; Notice says so
)

// Statement is one statement of a query text, classified and rewritten for SQLite. Statements are
// immutable once Parse has returned them: they may be cached and shared between sessions.
type Statement struct {
	Kind         Kind
	Text         string   // the original text of this one statement, trimmed, without the semicolon
	Tag          string   // command tag without counts: SELECT, INSERT, CREATE TABLE, BEGIN
	SQL          []string // for SQLite, in order; exactly one for Select, Insert, Update and Delete
	NumParams    int      // highest $n
	ParamTypes   []oid.OID
	ForUpdate    bool     // has a locking clause or calls a function that changes something: run it as a write
	Writing      string   // what of it writes, as PostgreSQL names it, where that is not the Tag: SELECT FOR UPDATE, nextval(), COPY FROM
	SetsConfig   bool     // calls set_config
	AtLeader     bool     // calls a function of what the leader alone keeps, such as advisory locks
	NamesObjects bool     // asks the catalog for something by its name or number, as 't'::regclass does
	From         []string // the tables, views and names of WITH that a query reads, in lower case; see FromKnown
	FromKnown    bool     // From is complete
	Arithmetic   bool     // has + - * / % or sum, avg, round, … on something that is not a literal
	Returning    bool     // INSERT, UPDATE or DELETE that gives rows
	Table        string   // target table, for INSERT, UPDATE, DELETE, COPY, CREATE TABLE, ALTER TABLE, CREATE INDEX

	Name     string   // the one name that the statement is about, by Kind
	Names    []string // several names, by Kind
	Tables   []string // the tables of TRUNCATE, LOCK, VACUUM, ANALYZE, REINDEX
	Payload  string   // of NOTIFY
	IfExists bool     // IF EXISTS, or IF NOT EXISTS for CREATE
	Deferred bool     // SET CONSTRAINTS … DEFERRED
	Notice   string   // what the client should be told besides the result; "" for nothing

	Txn      *TxnOptions
	Set      *Variable
	Copy     *CopyOptions
	Prepare  *PrepareStmt
	Cursor   *CursorStmt
	Explain  *ExplainStmt
	Vacuum   *VacuumStmt
	Comment  *CommentStmt
	Database *DatabaseStmt
	Role     *RoleStmt
	Rebuild  *TableEdit
	CreateAs *CreateAsStmt
	Wait     *WaitStmt
	View     *ViewStmt
	Index    *IndexStmt

	infer *inference // nil when there is nothing to type
}

// Choice is a setting that a statement may leave out.
type Choice int8

// The values of a Choice.
const (
	Unset Choice = iota
	On
	Off
)

// TxnOptions are the modes of BEGIN, START TRANSACTION, SET TRANSACTION, COMMIT and ROLLBACK.
type TxnOptions struct {
	Isolation  string // "serializable", "repeatable read", "read committed", "read uncommitted" or ""
	ReadOnly   Choice
	Deferrable Choice
	Session    bool // SET SESSION CHARACTERISTICS: for later transactions
	Chain      bool // COMMIT AND CHAIN, ROLLBACK AND CHAIN
}

// Variable is the operand of SET, RESET and SHOW. Names are in lower case; the spellings with their
// own syntax (TIME ZONE, NAMES, ROLE, SESSION AUTHORIZATION, TRANSACTION ISOLATION LEVEL) become
// timezone, client_encoding, role, session_authorization and transaction_isolation.
type Variable struct {
	Name    string
	Value   string   // the values, unquoted, joined by ", "
	Values  []string // each value, unquoted
	Local   bool     // SET LOCAL
	Default bool     // SET x TO DEFAULT
}

// CopyOptions is a COPY statement. Delimiter, Null, Quote and Escape are filled with the format's
// defaults.
type CopyOptions struct {
	From         bool       // COPY … FROM STDIN; false for TO STDOUT
	Table        string     // "" for COPY (query)
	Columns      []string   // empty for all
	Query        *Statement // for TO: the query, or a SELECT of the table's columns
	Format       string     // "text", "csv" or "binary"
	Delimiter    byte
	Null         string
	Header       bool
	HeaderMatch  bool // HEADER MATCH: the names must be those of the columns
	Quote        byte
	Escape       byte
	ForceQuote   []string // csv out: columns always quoted; "*" for all
	ForceNotNull []string // csv in: columns whose unquoted null string is not NULL; "*" for all
	ForceNull    []string // csv in: columns whose quoted null string is NULL; "*" for all
	Encoding     string
}

// PrepareStmt is PREPARE name (types) AS query; of EXECUTE only the name is set.
type PrepareStmt struct {
	Name  string
	Types []oid.OID
	Query *Statement
}

// Direction is where FETCH and MOVE go.
type Direction int

// The directions.
const (
	Forward  Direction = iota // Count rows, or All
	Backward                  // Count rows, or All
	Absolute                  // to row Count
	Relative                  // by Count rows
)

// CursorStmt is DECLARE, FETCH or MOVE. FIRST and LAST are Absolute 1 and -1.
type CursorStmt struct {
	Name      string
	Hold      bool
	Scroll    Choice
	Binary    bool
	Query     *Statement // of DECLARE
	Direction Direction
	Count     int64
	All       bool
}

// ExplainStmt is the operand of EXPLAIN.
type ExplainStmt struct {
	Analyze bool
	Format  string // "text", "json", …; "text" when not given
	Query   *Statement
}

// VacuumStmt holds VACUUM's options.
type VacuumStmt struct{ Full, Analyze bool }

// CommentStmt is COMMENT ON kind name IS text.
type CommentStmt struct {
	Kind string // TABLE, COLUMN, …
	Name string // dotted
	Text string
	Null bool // IS NULL removes the comment
}

// DatabaseStmt is CREATE, ALTER or DROP DATABASE.
type DatabaseStmt struct {
	Name     string
	IfExists bool
	Force    bool
	Owner    string
	Template string
	Encoding string
	NewName  string // ALTER DATABASE … RENAME TO
}

// RoleStmt is CREATE or ALTER ROLE, USER or GROUP.
type RoleStmt struct {
	Name         string // "" for ALTER ROLE ALL
	Database     string // of ALTER ROLE … IN DATABASE; "" for all
	NewName      string // ALTER ROLE … RENAME TO
	HasPassword  bool   // PASSWORD was given
	Password     string // "" with HasPassword for PASSWORD NULL
	Login        Choice // CREATE USER means On
	Superuser    Choice
	CreateDB     Choice
	CreateRole   Choice
	Inherit      Choice
	Replication  Choice
	BypassRLS    Choice
	HasConnLimit bool
	ConnLimit    int
	ValidUntil   string
}

// CreateAsStmt is CREATE TABLE … AS query. The engine infers the query's types and gives them to
// Create.
type CreateAsStmt struct {
	Table       string
	Columns     []string // names given to the query's columns; may be fewer than they are
	Temp        bool
	IfNotExists bool
	NoData      bool
	Query       *Statement
}

// WaitStmt is WAIT FOR LSN, as PostgreSQL 19 has it.
type WaitStmt struct {
	LSN     string // as written
	Mode    string // one of WaitModes
	Timeout string // as written; "" for none
	NoThrow bool
}

// ViewStmt is CREATE VIEW. Its text, the last of SQL, is Head and the query's SQL; with Query's Typed
// in place of that, the view computes exactly.
type ViewStmt struct {
	Head  string
	Query *Statement
}

// IndexStmt is a CREATE INDEX without a name. Which one is free, only the database knows.
type IndexStmt struct {
	table      string
	columns    []string
	head, tail string // of its SQL, around the name
}

// ParamType is a parameter's inferred type with its modifier (-1 for none).
type ParamType struct {
	OID oid.OID
	Mod int32
}
