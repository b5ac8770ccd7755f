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
)

var (
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
	errNoFrame  = errors.New("no valid entry")
	errTooLarge = errors.New("entry's chunk is too large")
)

func align(n int) int { return (n + frameAlign - 1) &^ (frameAlign - 1) }

// appendFrame encodes one frame of e and gives its header's hash. unflushed is how far the disk was
// behind e.LSN: it proves, to a recovery that finds this frame after a bad one, which of those
// before it had been durable.
func appendFrame(dst []byte, e *Entry, unflushed uint32) ([]byte, history.Hash, error) {
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
	le.PutUint32(h[52:], unflushed)
	le.PutUint64(h[56:], e.Checksum)
	le.PutUint32(h[4:], crc32.Checksum(dst[start+8:], castagnoli))
	sum := history.Hash(xxh3.Hash(h))
	for len(dst)%frameAlign != start%frameAlign {
		dst = append(dst, 0)
	}
	return dst, sum, nil
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
func decodeFrame(b []byte, e *Entry, scratch *[]byte) (size int, sum history.Hash, unflushed uint32, err error) {
	if len(b) < frameHeader {
		return 0, 0, 0, errNoFrame
	}
	le := binary.LittleEndian
	n := int(le.Uint32(b))
	if n > MaxChunk+2*PageSize || len(b) < frameHeader+n {
		return 0, 0, 0, errNoFrame
	}
	if le.Uint64(b[16:]) == 0 || crc32.Checksum(b[8:frameHeader+n], castagnoli) != le.Uint32(b[4:]) {
		return 0, 0, 0, errNoFrame
	}
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
		Body:     b[frameHeader : frameHeader+n],
		More:     b[37]&flagMore != 0,
	}
	if b[37]&flagCompressed != 0 {
		if e.Body, err = expand(e.Body, scratch); err != nil {
			return 0, 0, 0, err
		}
	}
	size = min(align(frameHeader+n), len(b))
	return size, history.Hash(xxh3.Hash(b[:frameHeader])), le.Uint32(b[52:]), nil
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
