package replication

import (
	"encoding/binary"
	"errors"

	"skein/internal/history"
)

var errBadMessage = errors.New("message does not have the form it should")

// maxString bounds names, addresses and texts.
const maxString = 512

// encoder appends fields; all numbers are little-endian.
type encoder struct{ b []byte }

func (e *encoder) u8(v uint8)        { e.b = append(e.b, v) }
func (e *encoder) u16(v uint16)      { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32)      { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64)      { e.b = binary.LittleEndian.AppendUint64(e.b, v) }
func (e *encoder) lsn(v history.LSN) { e.u64(uint64(v)) }
func (e *encoder) bytes(v []byte)    { e.b = append(e.b, v...) }

func (e *encoder) str(s string) {
	s = s[:min(len(s), maxString)]
	e.u16(uint16(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) bool(v bool) {
	if v {
		e.u8(1)
		return
	}
	e.u8(0)
}

func (e *encoder) position(p history.Position) {
	e.u64(uint64(p.Epoch))
	e.lsn(p.LSN)
	e.u64(uint64(p.Chain))
}

// maxEpochs bounds an epoch history on the wire. Of a longer one the newest are sent: that only makes
// a fork point further back unknown, which ends in a snapshot.
const maxEpochs = 64 << 10

func (e *encoder) epochs(h history.Epochs) {
	h = h[max(0, len(h)-maxEpochs):]
	e.u32(uint32(len(h)))
	for _, s := range h {
		e.u64(uint64(s.Epoch))
		e.lsn(s.LSN)
	}
}

// decoder reads what encoder wrote. The first field that is missing or impossible sets bad; whatever is read afterwards is zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) lsn() history.LSN { return history.LSN(d.u64()) }
func (d *decoder) bool() bool       { return d.u8() != 0 }

func (d *decoder) str() string {
	n := int(d.u16())
	if n > maxString {
		d.bad, d.b = true, nil
		return ""
	}
	return string(d.take(n))
}

func (d *decoder) position() history.Position {
	return history.Position{Epoch: history.Epoch(d.u64()), LSN: d.lsn(), Chain: history.Hash(d.u64())}
}

// epochs reads a history and sees to it that it ascends, on which whoever searches it relies.
func (d *decoder) epochs() history.Epochs {
	n := int(d.u32())
	if n > maxEpochs || n*16 > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	h := make(history.Epochs, n)
	for i := range h {
		h[i] = history.Start{Epoch: history.Epoch(d.u64()), LSN: d.lsn()}
		if i > 0 && (h[i].Epoch <= h[i-1].Epoch || h[i].LSN <= h[i-1].LSN) {
			d.bad = true
		}
	}
	return h
}

// end gives the error of everything read so far. What follows is of a newer minor version, and is left alone.
func (d *decoder) end() error {
	if d.bad {
		return errBadMessage
	}
	return nil
}
