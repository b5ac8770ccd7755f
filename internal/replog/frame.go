package replog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/klauspost/compress/s2"
	"github.com/zeebo/xxh3"

	"skein/internal/history"
)

const (
	frameHeader = 64
	frameAlign  = 8

	// MaxChunk bounds the body of one frame before compression. A larger entry is cut into chunks,
	// each of whole page records, so that neither side ever holds more than this of it.
	MaxChunk = 256 << 10

	compressFrom = 512 // smaller bodies are hardly ever worth the cycles

	flagCompressed = 1
	flagMore       = 2

	hintAt   = 52 // in a frame's header: see putHint
	hintBits = 20
)

var (
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
	errNoFrame  = errors.New("no valid entry")
	errTooLarge = errors.New("entry's chunk is too large")
)

func align(n int) int { return (n + frameAlign - 1) &^ (frameAlign - 1) }

// appendFrame encodes one frame of e and gives its header's hash. unflushed is how far this node's disk
// was behind e.LSN, see putHint.
func appendFrame(dst []byte, e *Entry, unflushed history.LSN) ([]byte, history.Hash, error) {
	if len(e.Body) > MaxChunk+2*PageSize {
		return dst, 0, errTooLarge
	}
	start := len(dst)
	dst = append(dst, make([]byte, frameHeader)...)
	var flags byte
	if e.More {
		flags |= flagMore
	}
	if packed := compress(dst, e.Body); packed != nil {
		dst, flags = packed, flags|flagCompressed
	} else {
		dst = append(dst, e.Body...)
	}
	h := dst[start : start+frameHeader]
	le := binary.LittleEndian
	le.PutUint32(h[0:], uint32(len(dst)-start-frameHeader))
	le.PutUint64(h[8:], uint64(e.Epoch))
	le.PutUint64(h[16:], uint64(e.LSN))
	le.PutUint64(h[24:], uint64(e.Chain))
	le.PutUint32(h[32:], uint32(e.Database))
	h[36], h[37] = byte(e.Kind), flags
	le.PutUint16(h[38:], e.Chunk)
	le.PutUint64(h[40:], uint64(e.Time))
	le.PutUint32(h[48:], e.Pages)
	le.PutUint64(h[56:], e.Checksum)
	le.PutUint32(h[4:], frameCRC(dst[start:]))
	sum := history.Hash(xxh3.Hash(h))
	putHint(h, e.LSN, unflushed)
	for len(dst)%frameAlign != start%frameAlign {
		dst = append(dst, 0)
	}
	return dst, sum, nil
}

// putHint notes in a frame's header how many entries before it, and itself, were not yet on this node's
// disk when it was appended. That proves, to a recovery that finds this frame after a bad one, which of
// those before it had been durable. Each node writes its own, so the CRC leaves these four bytes out, for the
// chain hash they are zeros, and they carry their own check: the rest is the same on all nodes. A count that does not
// fit proves nothing, as does one that is not valid.
func putHint(header []byte, lsn, unflushed history.LSN) {
	hint := uint32(0)
	if unflushed < 1<<hintBits {
		hint = uint32(unflushed) | hintCheck(lsn, unflushed)<<hintBits
	}
	binary.LittleEndian.PutUint32(header[hintAt:], hint)
}

// hintOf gives what putHint noted, or 0 where that proves nothing: an entry itself always counts.
func hintOf(header []byte) (unflushed history.LSN) {
	lsn := history.LSN(binary.LittleEndian.Uint64(header[16:]))
	hint := binary.LittleEndian.Uint32(header[hintAt:])
	n := history.LSN(hint & (1<<hintBits - 1))
	if n > lsn || hint>>hintBits != hintCheck(lsn, n) {
		return 0
	}
	return n
}

// hintCheck is twelve bits that follow from the two numbers.
func hintCheck(lsn, unflushed history.LSN) uint32 {
	x := (uint64(lsn)<<hintBits ^ uint64(unflushed)) * 0x9e3779b97f4a7c15
	x = (x ^ x>>29) * 0xbf58476d1ce4e5b9
	return uint32(x >> (32 + hintBits))
}

// frame is what a header says, as far as the log itself needs it.
type frame struct {
	size    int // in bytes, padding included
	epoch   history.Epoch
	lsn     history.LSN
	chain   history.Hash
	chunk   uint16
	more    bool
	content int // bytes of the body as stored
}

// readFrame reads the header at the start of b. It is false if the frame is not all there or its length is
// impossible; whether its bytes are right only intact tells.
func readFrame(b []byte) (f frame, ok bool) {
	content, size, ok := measure(b)
	if !ok {
		return f, false
	}
	le := binary.LittleEndian
	return frame{
		size: size, epoch: history.Epoch(le.Uint64(b[8:])), lsn: history.LSN(le.Uint64(b[16:])), chain: history.Hash(le.Uint64(b[24:])),
		chunk: le.Uint16(b[38:]), more: b[37]&flagMore != 0, content: content,
	}, true
}

// measure says how many bytes of body the frame at the start of b has, and how many it takes in all.
func measure(b []byte) (content, size int, ok bool) {
	le := binary.LittleEndian
	if len(b) < frameHeader || le.Uint64(b[16:]) == 0 { // no entry has LSN 0
		return 0, 0, false
	}
	n := le.Uint32(b)
	if n > MaxChunk+2*PageSize || len(b) < align(frameHeader+int(n)) {
		return 0, 0, false
	}
	return int(n), align(frameHeader + int(n)), true
}

// frameCRC is over a frame, without its padding, from its CRC on but for the hint.
func frameCRC(b []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, b[8:hintAt]), castagnoli, b[hintAt+4:])
}

// intact says whether the frame at the start of b, with so many bytes of body, has the right CRC.
func intact(b []byte, content int) bool {
	return frameCRC(b[:frameHeader+content]) == binary.LittleEndian.Uint32(b[4:])
}

// headerHash is what the next frame's chain hash must be.
func headerHash(b []byte) history.Hash {
	h := [frameHeader]byte(b)
	clear(h[hintAt : hintAt+4])
	return history.Hash(xxh3.Hash(h[:]))
}

// compress appends body to dst in s2 form, preceded by its plain length, or gives nil if that
// does not pay.
func compress(dst, body []byte) []byte {
	if len(body) < compressFrom {
		return nil
	}
	start := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	dst = append(dst, s2.Encode(nil, body)...)
	if len(dst)-start > len(body)-len(body)/8 {
		return nil
	}
	return dst
}

// decodeFrame reads the frame at the start of b. size is how many bytes it takes, padding included.
// e.Body aliases b, or scratch where it was compressed.
func decodeFrame(b []byte, e *Entry, scratch *[]byte) (size int, sum history.Hash, err error) {
	content, _, ok := measure(b)
	if !ok || !intact(b, content) {
		return 0, 0, errNoFrame
	}
	if size, err = readEntry(b, e, scratch); err != nil {
		return 0, 0, err
	}
	return size, headerHash(b), nil
}

// readEntry is decodeFrame for a frame that is known to be intact.
func readEntry(b []byte, e *Entry, scratch *[]byte) (size int, err error) {
	content, size, ok := measure(b)
	if !ok {
		return 0, errNoFrame
	}
	le := binary.LittleEndian
	*e = Entry{
		Epoch:    history.Epoch(le.Uint64(b[8:])),
		LSN:      history.LSN(le.Uint64(b[16:])),
		Chain:    history.Hash(le.Uint64(b[24:])),
		Database: history.DatabaseID(le.Uint32(b[32:])),
		Kind:     Kind(b[36]),
		Chunk:    le.Uint16(b[38:]),
		Time:     int64(le.Uint64(b[40:])),
		Pages:    le.Uint32(b[48:]),
		Checksum: le.Uint64(b[56:]),
		Body:     b[frameHeader : frameHeader+content],
		More:     b[37]&flagMore != 0,
	}
	if b[37]&flagCompressed != 0 {
		if e.Body, err = expand(e.Body, scratch); err != nil {
			return 0, err
		}
	}
	return size, nil
}

func expand(packed []byte, scratch *[]byte) ([]byte, error) {
	if len(packed) < 4 {
		return nil, errNoFrame
	}
	plain := binary.LittleEndian.Uint32(packed)
	if n, err := s2.DecodedLen(packed[4:]); err != nil || uint32(n) != plain || n > MaxChunk+2*PageSize {
		return nil, errNoFrame
	}
	out, err := s2.Decode((*scratch)[:cap(*scratch)], packed[4:])
	if err != nil {
		return nil, errNoFrame
	}
	*scratch = out
	return out, nil
}
