package replog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
)

// PageSize is the size of every database page, in bytes.
const PageSize = 4096

// mergeGap is how many equal bytes between two changes are cheaper to repeat than to skip: a new
// range costs two length bytes or more.
const mergeGap = 4

// diffBlock is compared at once where pages are equal, which they mostly are.
const diffBlock = 256

var errBadPages = errors.New("page changes do not decode")

// AppendPage encodes what turns the page from old into new: number, count of ranges, and for each
// the bytes skipped, its length and content. When that would be no smaller than the page, the count
// is zero and the whole page follows. Equal pages append nothing.
func AppendPage(dst []byte, no uint32, old, new []byte) []byte {
	start := len(dst)
	dst = binary.AppendUvarint(dst, uint64(no))
	countAt := len(dst)
	dst = append(dst, 0, 0) // two-byte varint, patched below
	count, end := 0, 0
	for at := nextDiff(old, new, 0); at < PageSize; {
		stop := rangeEnd(old, new, at)
		dst = binary.AppendUvarint(dst, uint64(at-end))
		dst = binary.AppendUvarint(dst, uint64(stop-at))
		dst = append(dst, new[at:stop]...)
		count, end = count+1, stop
		if len(dst)-countAt >= PageSize {
			return append(append(dst[:countAt], 0), new[:PageSize]...)
		}
		at = nextDiff(old, new, stop)
	}
	if count == 0 {
		return dst[:start]
	}
	if count < 0x80 { // the usual case: one byte
		copy(dst[countAt+1:], dst[countAt+2:])
		dst = dst[:len(dst)-1]
		dst[countAt] = byte(count)
		return dst
	}
	dst[countAt], dst[countAt+1] = byte(count)|0x80, byte(count>>7)
	return dst
}

// nextDiff finds the first differing byte at or after at, PageSize if there is none.
func nextDiff(a, b []byte, at int) int {
	for at&7 != 0 {
		if a[at] != b[at] {
			return at
		}
		at++
	}
	for at+diffBlock <= PageSize && bytes.Equal(a[at:at+diffBlock], b[at:at+diffBlock]) {
		at += diffBlock
	}
	for at < PageSize {
		if x := binary.LittleEndian.Uint64(a[at:]) ^ binary.LittleEndian.Uint64(b[at:]); x != 0 {
			return at + bits.TrailingZeros64(x)/8
		}
		at += 8
	}
	return PageSize
}

// rangeEnd finds where the change that begins at at ends: before mergeGap equal bytes.
func rangeEnd(a, b []byte, at int) int {
	end := at + 1
	for i := end; i < PageSize && i-end < mergeGap; i++ {
		if a[i] != b[i] {
			end = i + 1
		}
	}
	return end
}

// EachRange decodes a body that AppendPage made and calls fn for each range, in order. It checks
// every number, so that fn may write data at off of page no without looking. data aliases body.
func EachRange(body []byte, fn func(no uint32, off int, data []byte) error) error {
	for len(body) > 0 {
		no, n := binary.Uvarint(body)
		if n <= 0 || no == 0 || no > 1<<32-2 {
			return errBadPages
		}
		body = body[n:]
		count, n := binary.Uvarint(body)
		if n <= 0 || count > PageSize {
			return errBadPages
		}
		body = body[n:]
		if count == 0 {
			if len(body) < PageSize {
				return errBadPages
			}
			if err := fn(uint32(no), 0, body[:PageSize]); err != nil {
				return err
			}
			body = body[PageSize:]
			continue
		}
		var err error
		if body, err = eachRangeOfPage(body, uint32(no), int(count), fn); err != nil {
			return err
		}
	}
	return nil
}

func eachRangeOfPage(body []byte, no uint32, count int, fn func(uint32, int, []byte) error) ([]byte, error) {
	off := 0
	for range count {
		skip, n := binary.Uvarint(body)
		if n <= 0 || skip > PageSize {
			return nil, errBadPages
		}
		body = body[n:]
		size, n := binary.Uvarint(body)
		if n <= 0 || size == 0 || size > PageSize {
			return nil, errBadPages
		}
		body = body[n:]
		off += int(skip)
		if off+int(size) > PageSize || int(size) > len(body) {
			return nil, errBadPages
		}
		if err := fn(no, off, body[:size]); err != nil {
			return nil, err
		}
		off += int(size)
		body = body[size:]
	}
	return body, nil
}
