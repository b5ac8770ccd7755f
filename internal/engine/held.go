package engine

import (
	"encoding/binary"
	"errors"
	"io"
	"math"

	"skein/internal/dialect"
	"skein/internal/pgwire"
	"skein/internal/sqlitevfs"
)

// held is the whole result of a cursor that outlives its transaction, or goes backwards. It was read when the cursor was declared, which is
// when the cursor's snapshot was taken, too, so that later it would have been the same.
//
// Each row lies between two counts of its bytes, so that one can go from row to row either way.
type held struct {
	file  sqlitevfs.TempFile
	bytes int64  // of file
	last  []byte // rows that are still to be written there
	count int64
	at    int64 // the row that the cursor is on: 0 is before the first, count+1 behind the last

	no          int64 // the row that is in hand, 0 for none
	begin, next int64 // where it lies, and where the one after it
	row         []pgwire.Value
	window      []byte // of file, from
	from        int64
}

const (
	heldWindow = 64 << 10
	heldCount  = 4 // bytes of a count
)

// add appends a row.
func (h *held) add(row []pgwire.Value) error {
	start := len(h.last)
	h.last = append(h.last, make([]byte, heldCount)...)
	for _, v := range row {
		h.last = append(h.last, byte(v.Kind))
		switch v.Kind {
		case pgwire.Int:
			h.last = binary.AppendVarint(h.last, v.Int)
		case pgwire.Float:
			h.last = binary.LittleEndian.AppendUint64(h.last, math.Float64bits(v.Float))
		case pgwire.Text, pgwire.Blob:
			h.last = append(binary.AppendUvarint(h.last, uint64(len(v.Bytes))), v.Bytes...)
		}
	}
	n := uint32(len(h.last) - start - heldCount)
	binary.LittleEndian.PutUint32(h.last[start:], n)
	h.last = binary.LittleEndian.AppendUint32(h.last, n)
	h.count++
	if len(h.last) < heldWindow {
		return nil
	}
	return h.flush()
}

// flush writes what add has left.
func (h *held) flush() error {
	if _, err := h.file.WriteAt(h.last, h.bytes); err != nil {
		return err
	}
	h.bytes += int64(len(h.last))
	h.last = h.last[:0]
	return nil
}

// walk is a way through a result: the rows first to last, one after the other and upwards or downwards, then the cursor is at end. No row is 0.
type walk struct{ first, last, end int64 }

// backwards says whether it goes there from a row.
func (w walk) backwards(at int64) bool { return w.end < at || w.first != 0 && w.first <= at }

// walk says where FETCH and MOVE go from where the cursor is.
func (h *held) walk(f *dialect.CursorStmt) walk {
	count := f.Count
	switch direction := f.Direction; {
	case f.All:
		count = h.count + 1
		if direction == dialect.Backward {
			count = -count
		}
	case direction == dialect.Backward:
		count = -count
	case direction == dialect.Relative && count != 0:
		return h.to(h.at + h.within(count))
	case direction == dialect.Absolute && count < 0:
		return h.to(h.count + 1 + h.within(count))
	case direction == dialect.Absolute:
		return h.to(count)
	}
	switch end := h.at + h.within(count); {
	case count > 0 && h.at < h.count:
		return walk{h.at + 1, min(end, h.count), min(end, h.count+1)}
	case count < 0 && h.at > 1:
		return walk{h.at - 1, max(end, 1), max(end, 0)}
	case count == 0:
		return h.to(h.at)
	default:
		return walk{end: min(max(end, 0), h.count+1)}
	}
}

// to goes to one row, or beyond the result's ends.
func (h *held) to(row int64) walk {
	if row < 1 || row > h.count {
		return walk{end: min(max(row, 0), h.count+1)}
	}
	return walk{row, row, row}
}

// within keeps a distance to what there can be of it.
func (h *held) within(n int64) int64 { return min(max(n, -h.count-1), h.count+1) }

// run calls fn with each row of a walk.
func (h *held) run(w walk, fn func() error) error {
	step := int64(1)
	if w.last < w.first {
		step = -1
	}
	for no := w.first; w.first != 0; no += step {
		if err := h.seek(no); err != nil {
			return err
		}
		if err := fn(); err != nil {
			return err
		}
		h.at = no
		if no == w.last {
			break
		}
	}
	h.at = w.end
	return nil
}

// seek takes a row in hand.
func (h *held) seek(no int64) error {
	for h.no < no {
		n, err := h.size(h.next)
		if err != nil {
			return err
		}
		h.begin, h.next = h.next, h.next+n+2*heldCount
		h.no++
	}
	for h.no > no {
		n, err := h.size(h.begin - heldCount)
		if err != nil {
			return err
		}
		h.begin, h.next = h.begin-n-2*heldCount, h.begin
		h.no--
	}
	b, err := h.read(h.begin+heldCount, h.next-h.begin-2*heldCount)
	if err != nil {
		return err
	}
	return h.decode(b)
}

func (h *held) size(offset int64) (int64, error) {
	b, err := h.read(offset, heldCount)
	if err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint32(b)), nil
}

var errHeld = errors.New("the result of a cursor that is held does not read as it was written")

func (h *held) decode(b []byte) error {
	h.row = h.row[:0]
	for len(b) > 0 {
		v := pgwire.Value{Kind: pgwire.ValueKind(b[0])}
		b = b[1:]
		used := 0
		switch v.Kind {
		case pgwire.Null:
		case pgwire.Int:
			v.Int, used = binary.Varint(b)
		case pgwire.Float:
			if used = 8; len(b) < used {
				return errHeld
			}
			v.Float = math.Float64frombits(binary.LittleEndian.Uint64(b))
		default:
			n, head := binary.Uvarint(b)
			if head <= 0 || n > uint64(len(b)-head) {
				return errHeld
			}
			used = head + int(n)
			v.Bytes = b[head:used]
		}
		if used < 0 || v.Kind == pgwire.Int && used == 0 {
			return errHeld
		}
		b = b[used:]
		h.row = append(h.row, v)
	}
	return nil
}

// read gives bytes of the file until the next read. What lies around them is read along, on both sides, since a cursor goes either way.
func (h *held) read(offset, n int64) ([]byte, error) {
	if offset < 0 || n < 0 || offset+n > h.bytes {
		return nil, errHeld
	}
	if offset < h.from || offset+n > h.from+int64(len(h.window)) {
		begin := max(0, offset-heldWindow/2)
		end := min(h.bytes, max(offset+n, begin+heldWindow))
		if h.window = h.window[:0]; int64(cap(h.window)) < end-begin {
			h.window = make([]byte, 0, end-begin)
		}
		h.window, h.from = h.window[:end-begin], begin
		if got, err := h.file.ReadAt(h.window, begin); got < len(h.window) {
			h.window = h.window[:0]
			if err == nil || errors.Is(err, io.EOF) {
				err = errHeld
			}
			return nil, err
		}
	}
	return h.window[offset-h.from:][:n], nil
}

func (h *held) close() { _ = h.file.Close() }
