package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/s2"

	"skein/internal/history"
	"skein/internal/replog"
)

const (
	fileMagic   = "SKEINVLT"
	fileVersion = 1
	footerBytes = 24

	// maxText bounds what the file says in words.
	maxText = 4 << 10

	readBuffer = 1 << 20
)

var (
	errNewerFormat = errors.New("tail was written by a newer version of Skein")
	errDamaged     = errors.New("tail is damaged behind its entries")
)

// part is what is kept of one database.
type part struct {
	id     history.DatabaseID
	size   uint32            // pages that it had before the tail
	parent map[uint32]uint32 // see tree, and database
	chains map[uint32]uint32
	pages  map[uint32]int64 // where in the file they are
}

// summary is what the file says of its entries.
type summary struct {
	transactions uint64
	first, last  int64  // times, µs since 1970
	missing      string // why pages are missing; "" if none are
}

// writer writes what follows the entries.
type writer struct {
	w   io.Writer
	err error
}

func (w *writer) bytes(b []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(b)
	}
}

func (w *writer) u32(v uint32) { w.bytes(binary.LittleEndian.AppendUint32(nil, v)) }
func (w *writer) u64(v uint64) { w.bytes(binary.LittleEndian.AppendUint64(nil, v)) }

func (w *writer) links(m map[uint32]uint32) {
	w.u32(uint32(len(m)))
	for from, to := range m {
		w.u32(from)
		w.u32(to)
	}
}

func (w *writer) summary(s summary) {
	w.u64(s.transactions)
	w.u64(uint64(s.first))
	w.u64(uint64(s.last))
	text := s.missing[:min(len(s.missing), maxText)]
	w.u32(uint32(len(text)))
	w.bytes([]byte(text))
}

// page writes one page, packed.
func (w *writer) page(no uint32, content []byte) {
	packed := s2.Encode(nil, content)
	w.u32(no)
	w.u32(uint32(len(packed)))
	w.u32(crc32.Checksum(packed, castagnoli))
	w.bytes(packed)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// footer ends the file: where the entries end.
func footer(at int64) []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, footerBytes), fileMagic...)
	b = le.AppendUint32(b, fileVersion)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, uint64(at))
	le.PutUint32(b[12:], crc32.Checksum(b, castagnoli))
	return b
}

// entriesEnd gives the byte behind the last entry, and whether more is kept behind that.
func entriesEnd(f io.ReaderAt, size int64) (at int64, more bool, err error) {
	b := make([]byte, footerBytes)
	if size < footerBytes {
		return size, false, nil
	}
	if _, err := f.ReadAt(b, size-footerBytes); err != nil {
		return 0, false, err
	}
	le := binary.LittleEndian
	if string(b[:8]) != fileMagic {
		return size, false, nil
	}
	if v := le.Uint32(b[8:]); v > fileVersion {
		return 0, false, fmt.Errorf("%w: format %d, this one reads up to %d", errNewerFormat, v, fileVersion)
	}
	sum := le.Uint32(b[12:])
	le.PutUint32(b[12:], 0)
	at = int64(le.Uint64(b[16:]))
	if crc32.Checksum(b, castagnoli) != sum || at < 0 || at > size-footerBytes {
		return size, false, nil
	}
	return at, true, nil
}

// reader reads what writer wrote. After an error all is zero.
type reader struct {
	r    *io.SectionReader
	err  error
	word [8]byte
}

func (r *reader) read(b []byte) []byte {
	if r.err == nil {
		_, r.err = io.ReadFull(r.r, b)
	}
	if r.err != nil {
		clear(b)
	}
	return b
}

func (r *reader) u32() uint32 { return binary.LittleEndian.Uint32(r.read(r.word[:4])) }
func (r *reader) u64() uint64 { return binary.LittleEndian.Uint64(r.read(r.word[:8])) }
func (r *reader) at() int64   { n, _ := r.r.Seek(0, io.SeekCurrent); return n }

func (r *reader) skip(n int64) {
	if r.err == nil && n > r.r.Size()-r.at() {
		r.err = io.ErrUnexpectedEOF
	}
	if r.err == nil {
		_, r.err = r.r.Seek(n, io.SeekCurrent)
	}
}

// count reads how many things of some bytes each follow, of which there is room for no more.
func (r *reader) count(bytes int64) int {
	n := int64(r.u32())
	if r.err == nil && n*bytes > r.r.Size()-r.at() {
		r.err = io.ErrUnexpectedEOF
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

func (r *reader) links() map[uint32]uint32 {
	m := map[uint32]uint32{}
	for range r.count(8) {
		from := r.u32()
		m[from] = r.u32()
	}
	return m
}

func (r *reader) summary() summary {
	s := summary{transactions: r.u64(), first: int64(r.u64()), last: int64(r.u64())}
	text := make([]byte, min(r.count(1), maxText))
	s.missing = string(r.read(text))
	return s
}

// part reads what is kept of a database. Of the pages it notes where they are.
func (r *reader) part() part {
	p := part{id: history.DatabaseID(r.u32()), size: r.u32(), parent: r.links(), chains: r.links(), pages: map[uint32]int64{}}
	for range r.count(12) {
		at := r.at()
		p.pages[r.u32()] = at
		n := int64(r.u32())
		r.skip(4 + n)
	}
	return p
}

// readPage reads a page that part has noted, at a byte of the section.
func readPage(f io.ReaderAt, at int64, dst []byte) error {
	le := binary.LittleEndian
	var h [12]byte
	if _, err := f.ReadAt(h[:], at); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	packed := make([]byte, min(le.Uint32(h[4:]), 2*pageSize))
	if _, err := f.ReadAt(packed, at+12); err != nil || crc32.Checksum(packed, castagnoli) != le.Uint32(h[8:]) {
		return errDamaged
	}
	if n, err := s2.DecodedLen(packed); err != nil || n != pageSize {
		return errDamaged
	}
	if _, err := s2.Decode(dst[:pageSize], packed); err != nil {
		return errDamaged
	}
	return nil
}

// eachEntry calls fn for each piece of each entry in the first bytes of a file. It says how far entries could be
// read.
func eachEntry(f io.ReaderAt, end int64, fn func(e *replog.Entry) error) (at int64, err error) {
	var scratch []byte
	buf := make([]byte, readBuffer)
	for at < end {
		b := buf[:min(int64(len(buf)), end-at)]
		if _, err := f.ReadAt(b, at); err != nil {
			return at, err
		}
		n := 0
		for len(b)-n >= 4 {
			size := replog.FrameSize(b[n:])
			if size == 0 || n+size > len(b) {
				break
			}
			valid := true
			err := replog.EachFrame(b[n:n+size], &scratch, func(e *replog.Entry) error { valid = false; return fn(e) })
			if err != nil && valid { // it is not one
				return at + int64(n), nil
			}
			if err != nil {
				return at + int64(n), err
			}
			n += size
		}
		if n == 0 {
			return at, nil
		}
		at += int64(n)
	}
	return at, nil
}

func timeOf(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us)
}

func closing(f *os.File, err error) error { return errors.Join(err, f.Close()) }
