package pgcatalog

// TokensTable is the engine's table of transaction tokens in each database. No catalog shows it.
const TokensTable = "skein_transaction_tokens"

// tokenFunctions tell what became of a transaction that was named by a token.
func tokenFunctions() []function {
	return []function{{"skein_transaction_status", 1, 1, direct | nullable, transactionStatus}}
}

// transactionStatus is 'committed' for a transaction of this role in this database that everybody can see, else 'unknown':
// there was none, or it is not known yet, or no longer.
func transactionStatus(c *call) error {
	committed, err := c.sess().TransactionCommitted(c.text(0))
	if err != nil {
		return err
	}
	if committed {
		return c.returnText("committed")
	}
	return c.returnText("unknown")
}
