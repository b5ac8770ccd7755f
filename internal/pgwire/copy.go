package pgwire

// CopyFormat is how COPY writes rows. The zero value is format text.
type CopyFormat struct {
	Format       string // "text" (also ""), "csv" or "binary"
	Delimiter    byte   // 0: tab in text, comma in csv
	Quote        byte   // csv; 0: "
	Escape       byte   // csv; 0: as Quote
	Null         string // see NullSet
	NullSet      bool   // Null was given; otherwise it is \N in text and empty in csv
	Header       bool   // the first line has the columns' names: skipped, or written
	ForceQuote   []bool // csv out: columns whose values are always quoted; nil for none
	ForceNotNull []bool // csv in: columns where Null's text is not NULL
	ForceNull    []bool // csv in: columns where Null's text is NULL even when it is quoted
}

// endOfData is the line that ends text and csv in files. Clients of protocol 3 need not send it.
const endOfData = `\.`

// copySignature begins binary data.
const copySignature = "PGCOPY\n\xff\r\n\x00"

func (f CopyFormat) csv() bool    { return f.Format == "csv" }
func (f CopyFormat) binary() bool { return f.Format == "binary" }

func (f CopyFormat) withDefaults() CopyFormat {
	if !f.NullSet && !f.csv() {
		f.Null = `\N`
	}
	if f.csv() {
		setDefault(&f.Delimiter, ',')
		setDefault(&f.Quote, '"')
		setDefault(&f.Escape, f.Quote)
	}
	setDefault(&f.Delimiter, '\t')
	return f
}

func chosen(columns []bool, i int) bool { return i < len(columns) && columns[i] }
