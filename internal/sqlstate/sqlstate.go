// Package sqlstate holds the error that every layer above storage hands to a client: a PostgreSQL
// SQLSTATE with a message and the fields that drivers read. It stands below the SQL packages so
// that tokenizer, catalog, engine and wire share one type and one list of codes.
//
// Codes and their meaning: PostgreSQL documentation, appendix A.
package sqlstate

import (
	"bytes"
	"fmt"
)

// Code is a five-character SQLSTATE.
type Code string

// The codes that Skein raises.
const (
	SuccessfulCompletion      Code = "00000"
	Warning                   Code = "01000"
	ConnectionDoesNotExist    Code = "08003"
	ConnectionFailure         Code = "08006"
	TransactionUnknown        Code = "08007"
	ProtocolViolation         Code = "08P01"
	FeatureNotSupported       Code = "0A000"
	StringTooLong             Code = "22001"
	NumericOutOfRange         Code = "22003"
	InvalidDatetimeFormat     Code = "22007"
	DatetimeOverflow          Code = "22008"
	ZoneDisplacement          Code = "22009"
	DivisionByZero            Code = "22012"
	InvalidParameterValue     Code = "22023"
	InvalidRegularExpression  Code = "2201B"
	CharacterNotInRepertoire  Code = "22021"
	InvalidTextRepresentation Code = "22P02"
	InvalidBinaryFormat       Code = "22P03"
	BadCopyFormat             Code = "22P04"
	IntegrityViolation        Code = "23000"
	NotNullViolation          Code = "23502"
	ForeignKeyViolation       Code = "23503"
	UniqueViolation           Code = "23505"
	CheckViolation            Code = "23514"
	InvalidCursorState        Code = "24000"
	ActiveTransaction         Code = "25001"
	ReadOnlyTransaction       Code = "25006"
	NoActiveTransaction       Code = "25P01"
	InFailedTransaction       Code = "25P02"
	IdleInTransactionTimeout  Code = "25P03"
	InvalidStatementName      Code = "26000"
	InvalidAuthorization      Code = "28000"
	InvalidPassword           Code = "28P01"
	DependentObjects          Code = "2BP01"
	InvalidCursorName         Code = "34000"
	InvalidDatabaseName       Code = "3D000"
	InvalidSchemaName         Code = "3F000"
	InvalidSavepoint          Code = "3B001"
	SerializationFailure      Code = "40001"
	StatementUnknown          Code = "40003"
	DeadlockDetected          Code = "40P01"
	InsufficientPrivilege     Code = "42501"
	SyntaxError               Code = "42601"
	InvalidName               Code = "42602"
	DuplicateColumn           Code = "42701"
	AmbiguousColumn           Code = "42702"
	UndefinedColumn           Code = "42703"
	UndefinedObject           Code = "42704"
	DuplicateObject           Code = "42710"
	WrongObjectType           Code = "42809"
	DatatypeMismatch          Code = "42804"
	CannotCoerce              Code = "42846"
	GroupingError             Code = "42803"
	UndefinedFunction         Code = "42883"
	UndefinedTable            Code = "42P01"
	UndefinedParameter        Code = "42P02"
	DuplicateCursor           Code = "42P03"
	DuplicateDatabase         Code = "42P04"
	DuplicatePreparedStmt     Code = "42P05"
	DuplicateTable            Code = "42P07"
	IndeterminateDatatype     Code = "42P18"
	InvalidTableDefinition    Code = "42P16"
	InsufficientResources     Code = "53000"
	DiskFull                  Code = "53100"
	OutOfMemory               Code = "53200"
	TooManyConnections        Code = "53300"
	ConfigLimitExceeded       Code = "53400"
	ProgramLimitExceeded      Code = "54000"
	NotInRequiredState        Code = "55000"
	ObjectInUse               Code = "55006"
	CantChangeRuntimeParam    Code = "55P02"
	LockNotAvailable          Code = "55P03"
	QueryCanceled             Code = "57014"
	AdminShutdown             Code = "57P01"
	CannotConnectNow          Code = "57P03"
	DatabaseDropped           Code = "57P04"
	IOError                   Code = "58030"
	SnapshotTooOld            Code = "72000"
	InternalError             Code = "XX000"

	// NotLeader is between nodes: what was asked has had no effect, since this node does not lead.
	NotLeader     Code = "SK001"
	DataCorrupted Code = "XX001"
)

// Error is what a client is told. The zero value of every field but Code and Message means absent.
type Error struct {
	Code       Code
	Message    string
	Detail     string
	Hint       string
	Position   int // 1-based, in characters of the statement's text; 0 when unknown
	Schema     string
	Table      string
	Column     string
	DataType   string
	Constraint string

	// NotHere says that nothing has been done, and that another node can do it. The client is not told.
	NotHere bool
}

// New makes an Error with a formatted message.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Excerpt is what a message quotes of a value: it keeps messages short whatever the client sent.
func Excerpt(data []byte) []byte {
	const limit = 200
	if len(data) <= limit {
		return data
	}
	return append(bytes.ToValidUTF8(data[:limit], nil), "..."...)
}

// Error gives "message (SQLSTATE code)".
func (e *Error) Error() string { return fmt.Sprintf("%s (SQLSTATE %s)", e.Message, e.Code) }

// WithHint sets what the user can do, and returns e.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// WithDetail sets the detail line, and returns e.
func (e *Error) WithDetail(format string, args ...any) *Error {
	e.Detail = fmt.Sprintf(format, args...)
	return e
}

// At sets the 1-based character position of the error in the statement, and returns e.
func (e *Error) At(position int) *Error {
	e.Position = position
	return e
}
