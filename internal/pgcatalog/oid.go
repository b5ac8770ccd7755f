package pgcatalog

import (
	"hash/fnv"
	"strings"

	"skein/internal/oid"
)

// Kinds of objects that ObjectOID tells apart.
const (
	KindTable      = "table"
	KindView       = "view"
	KindIndex      = "index"
	KindSequence   = "sequence"
	KindConstraint = "constraint" // name is table + "." + constraint
	KindDefault    = "default"    // name is table + "." + column
	KindTrigger    = "trigger"
	KindRole       = "role"
	KindDatabase   = "database"
	KindNamespace  = "namespace"
	KindFunction   = "function"
)

// firstUserOID is where PostgreSQL, too, begins to number what users make.
const firstUserOID = 16384

// ObjectOID gives the OID of a user's object. It is a hash of kind and name, so that every node and
// every connection gives one object the same number without keeping a counter. Two objects may
// share a number with a chance of about n²/2³² for n objects; clients then mistake one for the other.
func ObjectOID(kind, name string) oid.OID {
	h := fnv.New32a()
	h.Write([]byte(kind))
	h.Write([]byte{':'})
	h.Write([]byte(strings.ToLower(name)))
	const span = 1<<31 - firstUserOID
	return oid.OID(h.Sum32()%span + firstUserOID)
}
