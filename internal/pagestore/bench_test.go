package pagestore

import (
	"path/filepath"
	"testing"

	"skein/internal/history"
)

// BenchmarkCopy measures the steps of a snapshot of 256 MB, each by itself: hashing an older copy, reading
// an image, writing it; and a scrub.
func BenchmarkCopy(b *testing.B) {
	const pages = 65536
	dir := b.TempDir()
	s, err := Open(filepath.Join(dir, "db"), Options{TempDir: dir})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	o := newOneRow(pages)
	e := o.load()
	if err := s.Apply(&e, 0); err != nil {
		b.Fatal(err)
	}
	if err := s.Checkpoint(e.LSN); err != nil {
		b.Fatal(err)
	}
	i, err := s.Pin(e.LSN)
	if err != nil {
		b.Fatal(err)
	}
	defer i.Close()
	sums, err := i.Sums(2, 1, pages)
	if err != nil {
		b.Fatal(err)
	}
	const run = 128
	numbers, buf := make([]PageNo, run), make([]byte, run*PageSize)
	read := func(first PageNo) {
		for n := range numbers {
			numbers[n] = first + PageNo(n)
		}
		if err := i.ReadPages(2, numbers, buf); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("ReadPages", func(b *testing.B) {
		b.SetBytes(pages * PageSize)
		for b.Loop() {
			for first := PageNo(1); first < pages; first += run {
				read(first)
			}
		}
	})
	target := filepath.Join(dir, "copy")
	b.Run("WriteRun", func(b *testing.B) {
		b.SetBytes(pages * PageSize)
		for b.Loop() {
			in, err := BeginInstall(target, true)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := in.Sums(2); err != nil {
				b.Fatal(err)
			}
			if err := in.Mark([]Run{{2, 1, pages}}); err != nil {
				b.Fatal(err)
			}
			for first := PageNo(1); first < pages; first += run {
				read(first)
				if err := in.WriteRun(2, first, buf, sums[first-1:first-1+run]); err != nil {
					b.Fatal(err)
				}
			}
			if err := in.Finish(history.LSN(1), i.Databases()); err != nil {
				b.Fatal(err)
			}
			if err := in.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Sums", func(b *testing.B) {
		b.SetBytes(pages * PageSize)
		for b.Loop() {
			in, err := BeginInstall(target, true)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := in.Sums(2); err != nil {
				b.Fatal(err)
			}
			if err := in.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Scrub", func(b *testing.B) {
		b.SetBytes(pages * PageSize)
		for b.Loop() {
			err := s.Scrub(b.Context(), 2, func(int) error { return nil }, func(no PageNo, _ uint64) { b.Errorf("page %d", no) })
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
