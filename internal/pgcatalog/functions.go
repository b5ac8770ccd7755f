package pgcatalog

import "strings"

// functions is every scalar function that Register installs. It is filled at init, because some of
// them list the functions, and does not change after.
var functions []function

// Acts says whether calling a function, or reading a table, of this name may do more than look at the database: it changes something
// outside of the transaction, waits, or shows the node. Names that are not the catalog's do not.
func Acts(name string) bool {
	name = strings.ToLower(name)
	return relationsByName[name] != nil || flagsOf[name]&direct != 0
}

// Varies says whether a function may answer differently within one transaction.
func Varies(name string) bool { return flagsOf[strings.ToLower(name)]&varying != 0 }

// flagsOf has the flags of functions by name.
var flagsOf = map[string]int{}

func init() {
	for _, group := range [][]function{
		sessionFunctions(), definitionFunctions(), arithmeticFunctions(), castFunctions(), textFunctions(),
		datetimeFunctions(), arrayFunctions(), jsonFunctions(), sequenceFunctions(), replicationFunctions(), failoverFunctions(), tokenFunctions(),
	} {
		functions = append(functions, group...)
	}
	for _, f := range functions {
		flagsOf[f.name] |= f.flags
	}
}
