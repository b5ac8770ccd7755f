package dialect

func (p *parser) create()               { p.unsupported(p.i, "CREATE is") }
func (p *parser) dropStatement()        { p.unsupported(p.i, "DROP is") }
func (p *parser) alter()                { p.unsupported(p.i, "ALTER is") }
func (p *parser) inferQuery(q *query)   {}
func (p *parser) inferChange(c *change) {}
