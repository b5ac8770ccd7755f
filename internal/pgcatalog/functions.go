package pgcatalog

// functions is every scalar function that Register installs. It is filled at init, because some of
// them list the functions, and does not change after.
var functions []function

func init() {
	for _, group := range [][]function{
		sessionFunctions(), definitionFunctions(), arithmeticFunctions(), castFunctions(), textFunctions(),
		datetimeFunctions(), arrayFunctions(), jsonFunctions(), sequenceFunctions(), replicationFunctions(), failoverFunctions(), tokenFunctions(),
	} {
		functions = append(functions, group...)
	}
}
