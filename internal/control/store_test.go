package control

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

func entries(from, to, term uint64) (all []*raft.Log) {
	for i := from; i <= to; i++ {
		all = append(all, &raft.Log{Index: i, Term: term, Type: raft.LogCommand, Data: fmt.Appendf(nil, "entry %d of %d", i, term)})
	}
	return all
}

func mustOpen(t *testing.T, dir string) *store {
	t.Helper()
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	return s
}

// checkLog compares the log with what it should be.
func checkLog(t *testing.T, s *store, want []*raft.Log) {
	t.Helper()
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	if first != want[0].Index || last != want[len(want)-1].Index {
		t.Errorf("the log goes from %d to %d", first, last)
	}
	for _, w := range want {
		var l raft.Log
		if err := s.GetLog(w.Index, &l); err != nil || !reflect.DeepEqual(&l, w) {
			t.Errorf("entry %d is %+v, %v", w.Index, l, err)
		}
	}
	for _, index := range []uint64{first - 1, last + 1} {
		if err := s.GetLog(index, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("entry %d: %v", index, err)
		}
	}
}

func TestStoreHasWhatWasWritten(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	id := s.id
	if last, err := s.LastIndex(); last != 0 || err != nil {
		t.Errorf("a new store has %d entries, %v", last, err)
	}
	if _, err := s.GetUint64([]byte(varTerm)); err == nil || err.Error() != "not found" {
		t.Errorf("a new store's term: %v", err)
	}
	for range 2 {
		all := entries(1, 100, 1)
		if err := errors.Join(s.StoreLogs(all), s.SetUint64([]byte(varTerm), 7), s.Set([]byte("x"), []byte("y"))); err != nil {
			t.Fatal(err)
		}
		checkLog(t, s, all)
		if err := errors.Join(s.DeleteRange(91, 100), s.StoreLogs(entries(91, 94, 2)), s.DeleteRange(1, 10), s.StoreLogs(entries(95, 96, 3))); err != nil {
			t.Fatal(err)
		}
		all = append(append(all[10:90], entries(91, 94, 2)...), entries(95, 96, 3)...)
		checkLog(t, s, all)
		s.committed(50)
		s.committed(40)
		if err := errors.Join(s.StoreLog(entries(97, 97, 3)[0]), s.close()); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, dir)
		checkLog(t, s, append(all, entries(97, 97, 3)...))
		if term, err := s.GetUint64([]byte(varTerm)); term != 7 || err != nil || s.id != id {
			t.Errorf("of store %s, it is %s, its term %d, %v", id, s.id, term, err)
		}
		if known := s.known(); len(known) != 40 || known[39].Index != 50 {
			t.Errorf("%d entries are known to be committed", len(known))
		}
		if err := s.DeleteRange(1, 97); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStoreIsOpenedOnce(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, dir)
	if _, err := openStore(dir); err == nil {
		t.Error("it is opened twice")
	}
}

func TestDamageOfTheStoreIsNoticed(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	want := entries(1, 40, 1)
	if err := errors.Join(s.StoreLogs(want), s.SetUint64([]byte(varTerm), 7), s.close()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, storeFile)
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	noticed := 0
	// Damage to the first two pages is as if the last write had never been: bbolt has one of them for each of the last two.
	for at := 2 * os.Getpagesize(); at < len(sound); at += 61 {
		damaged := bytes.Clone(sound)
		damaged[at] ^= 0x10
		dir := t.TempDir() // bbolt leaves a file that it panics at locked
		if err := os.WriteFile(filepath.Join(dir, storeFile), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openStore(dir)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("byte %d: %v", at, err)
			}
			noticed++
			continue
		}
		checkLog(t, s, want)
		if term, err := s.GetUint64([]byte(varTerm)); term != 7 || err != nil {
			t.Errorf("byte %d: the term is %d, %v", at, term, err)
		}
		_ = s.close()
	}
	if noticed == 0 {
		t.Error("no damage was noticed")
	}
	for _, size := range []int64{0, 1, 100, 4096, 5000} {
		if err := errors.Join(os.WriteFile(path, sound, 0o600), os.Truncate(path, size)); err != nil {
			t.Fatal(err)
		}
		s, err := openStore(dir)
		if err == nil {
			_ = s.close()
		}
		if (err == nil) != (size == 0) { // bbolt begins anew in an empty file
			t.Errorf("cut to %d bytes: %v", size, err)
		}
	}
}

func TestFullDiskHoldsWritesUntilThereIsRoom(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := openStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		var full atomic.Bool
		s.fault = func() error {
			if full.Load() {
				return &os.PathError{Op: "write", Err: syscall.ENOSPC}
			}
			return nil
		}
		full.Store(true)
		done := make(chan error, 1)
		go func() { done <- s.StoreLogs(entries(1, 1, 1)) }()
		time.Sleep(time.Minute)
		if stalled, why := s.stalled(); stalled < time.Minute || !errors.Is(why, syscall.ENOSPC) {
			t.Errorf("for %v it has been %v", stalled, why)
		}
		full.Store(false)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if stalled, _ := s.stalled(); stalled != 0 {
			t.Errorf("it is stalled for %v", stalled)
		}
		checkLog(t, s, entries(1, 1, 1))
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
}

func TestFailedDiskHoldsWritesForEver(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := openStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		var failed atomic.Bool
		failed.Store(true)
		s.fault = func() error {
			if failed.Load() {
				return syscall.EIO
			}
			return nil
		}
		ended := make(chan error, 2)
		go func() { ended <- s.StoreLogs(entries(1, 1, 1)) }()
		go func() {
			defer func() { ended <- nil }()
			_ = s.SetUint64([]byte(varTerm), 2)
			t.Error("Raft is told that its term was not saved, on which it ends the process")
		}()
		time.Sleep(time.Minute)
		failed.Store(false)
		time.Sleep(time.Minute)
		select {
		case <-ended:
			t.Error("a disk that has failed is written to")
		default:
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-ended; err != nil && !errors.Is(err, errClosing) {
				t.Error(err)
			}
		}
	})
}

func TestStoreOfAnotherFormatIsNotRead(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	s.summary.FormatVersion++
	if err := errors.Join(s.Set([]byte("x"), []byte("y")), s.close()); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(dir); err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("it gives %v", err)
	}
}
