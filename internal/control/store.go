package control

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	storeFile = "raft.db"

	// entryHead is crc, term and type before an entry's data.
	entryHead = 4 + 8 + 1

	varTerm = "CurrentTerm" // Raft's own name for it

	// retryEvery is how long a write that found the disk full waits before it is tried again.
	retryEvery = 500 * time.Millisecond
)

// ErrDamaged is the error of a control directory that does not read as it was written.
var ErrDamaged = errors.New("the control directory is damaged")

var (
	errClosing = errors.New("the control store is closed")

	bucketLog   = []byte("log")
	bucketVars  = []byte("vars")
	varStore    = []byte("skein store")
	varCommit   = []byte("skein commit index")
	errNotFound = errors.New("not found") // Raft goes by the text

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// store is Raft's log and variables: a bbolt file, and in memory the log, which is short. After Open nothing is
// read from the file, so that a disk that fails is met by writes only.
//
// Raft ends the process, or calls an election over and over, when its store cannot write. This one does not say
// that it cannot. A write waits until there is room; if the disk has failed in another way, it waits for ever. Who looks
// after the store sees that by stalled, and keeps this node's Raft from others meanwhile, who elect another coordinator.
type store struct {
	id      string // made with the file: another file is another voter, which has promised nothing
	db      *bbolt.DB
	closing chan struct{}
	giveUp  func() // writes that wait to be tried again
	close   func() error

	mu      sync.Mutex
	entries []*raft.Log // in order of Index
	vars    map[string][]byte
	commit  uint64    // how far entries are known to be committed. It goes with the next write of some
	writes  int       // under way
	since   time.Time // at least one has been under way
	trouble error     // of the newest write that failed, until one succeeds

	fault func() error // of tests; runs before each write
}

// openStore opens the store in dir, or makes one.
func openStore(dir string) (_ *store, err error) {
	defer func() {
		if p := recover(); p != nil { // bbolt trusts the pages that it reads
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, storeFile)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, NoFreelistSync: true})
	if err != nil {
		return nil, openError(path, err)
	}
	s := &store{db: db, closing: make(chan struct{}), vars: map[string][]byte{}}
	s.giveUp = sync.OnceFunc(func() { close(s.closing) })
	s.close = sync.OnceValue(func() error {
		s.giveUp()
		return db.Close()
	})
	if err := errors.Join(s.prepare(), s.load()); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), s.close())
	}
	return s, nil
}

func openError(path string, err error) error {
	for _, damage := range []error{bolterrors.ErrInvalid, bolterrors.ErrChecksum, bolterrors.ErrVersionMismatch} {
		if errors.Is(err, damage) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	if errors.Is(err, bolterrors.ErrTimeout) {
		err = errors.New("another process has it open")
	}
	return fmt.Errorf("open %s: %w", path, err)
}

// prepare makes what a new file lacks. A disk that is full does not keep an old one from being opened.
func (s *store) prepare() error {
	has := false
	err := s.db.View(func(tx *bbolt.Tx) error {
		has = tx.Bucket(bucketVars) != nil
		return nil
	})
	if err != nil || has {
		return err
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	return s.db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucketLog)
		vars, err2 := tx.CreateBucketIfNotExists(bucketVars)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		return vars.Put(varStore, []byte(hex.EncodeToString(id[:])))
	})
}

// load reads everything.
func (s *store) load() error {
	err := s.db.View(func(tx *bbolt.Tx) error {
		err := tx.Bucket(bucketVars).ForEach(func(k, v []byte) error {
			s.vars[string(k)] = bytes.Clone(v)
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Bucket(bucketLog).ForEach(s.loadEntry)
	})
	if err != nil {
		return err
	}
	if s.id = string(s.vars[string(varStore)]); s.id == "" {
		return fmt.Errorf("%w: it has no id", ErrDamaged)
	}
	if b := s.vars[string(varCommit)]; len(b) == 8 {
		s.commit = binary.BigEndian.Uint64(b)
	}
	return nil
}

func (s *store) loadEntry(k, v []byte) error {
	l, err := decodeEntry(k, v)
	if err != nil {
		return err
	}
	if n := len(s.entries); n > 0 && s.entries[n-1].Index+1 != l.Index {
		return fmt.Errorf("%w: entry %d follows %d", ErrDamaged, l.Index, s.entries[n-1].Index)
	}
	s.entries = append(s.entries, l)
	return nil
}

func encodeEntry(l *raft.Log) (key, value []byte) {
	key = binary.BigEndian.AppendUint64(nil, l.Index)
	value = make([]byte, 4, entryHead+len(l.Data))
	value = binary.BigEndian.AppendUint64(value, l.Term)
	value = append(value, byte(l.Type))
	value = append(value, l.Data...)
	binary.BigEndian.PutUint32(value, entrySum(key, value))
	return key, value
}

func entrySum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value[4:])
}

func decodeEntry(key, value []byte) (*raft.Log, error) {
	if len(key) != 8 || len(value) < entryHead || entrySum(key, value) != binary.BigEndian.Uint32(value) {
		return nil, fmt.Errorf("%w: entry %x", ErrDamaged, key)
	}
	return &raft.Log{
		Index: binary.BigEndian.Uint64(key), Term: binary.BigEndian.Uint64(value[4:]), Type: raft.LogType(value[12]),
		Data: bytes.Clone(value[entryHead:]),
	}, nil
}

// write runs one transaction, however long that takes. Its error is errClosing.
func (s *store) write(fn func(*bbolt.Tx) error) error {
	s.begin()
	defer s.end()
	for {
		err := s.try(fn)
		s.mu.Lock()
		s.trouble = err
		s.mu.Unlock()
		if err == nil {
			return nil
		}
		again := time.After(retryEvery)
		if !full(err) {
			again = nil // what a disk answers after it has failed to write is not to be relied on
		}
		select {
		case <-again:
		case <-s.closing:
			return errClosing
		}
	}
}

func (s *store) try(fn func(*bbolt.Tx) error) error {
	if s.fault != nil {
		if err := s.fault(); err != nil {
			return err
		}
	}
	return s.db.Update(fn)
}

func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

func (s *store) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writes++; s.writes == 1 {
		s.since = time.Now()
	}
}

func (s *store) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes--
	s.since = time.Now() // if others are under way, they waited for this one
}

// stalled is for how long no write has come to an end while one is under way, and why, if that is known.
func (s *store) stalled() (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writes == 0 {
		return 0, nil
	}
	return time.Since(s.since), s.trouble
}

// FirstIndex is of raft.LogStore, as are the next methods.
func (s *store) FirstIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.entries) == 0 {
		return 0, nil
	}
	return s.entries[0].Index, nil
}

func (s *store) LastIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.entries) == 0 {
		return 0, nil
	}
	return s.entries[len(s.entries)-1].Index, nil
}

func (s *store) GetLog(index uint64, l *raft.Log) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.find(index); ok {
		*l = *s.entries[i]
		return nil
	}
	return raft.ErrLogNotFound
}

// find gives the place of an entry, or where it would be; mu is held.
func (s *store) find(index uint64) (int, bool) {
	return slices.BinarySearchFunc(s.entries, index, func(l *raft.Log, index uint64) int {
		return int(int64(l.Index - index))
	})
}

func (s *store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s *store) StoreLogs(all []*raft.Log) error {
	if len(all) == 0 {
		return nil
	}
	s.mu.Lock()
	commit := s.commit
	s.mu.Unlock()
	err := s.write(func(tx *bbolt.Tx) error {
		log := tx.Bucket(bucketLog)
		for _, l := range all {
			if err := log.Put(encodeEntry(l)); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketVars).Put(varCommit, binary.BigEndian.AppendUint64(nil, commit))
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, _ := s.find(all[0].Index)
	s.entries = s.entries[:at]
	for _, l := range all {
		kept := *l
		s.entries = append(s.entries, &kept)
	}
	return nil
}

// DeleteRange is asked for the beginning of the log, after a snapshot, or for its end.
func (s *store) DeleteRange(from, to uint64) error {
	err := s.write(func(tx *bbolt.Tx) error {
		log := tx.Bucket(bucketLog)
		for index := from; index <= to; index++ {
			if err := log.Delete(binary.BigEndian.AppendUint64(nil, index)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a, _ := s.find(from)
	b, _ := s.find(to + 1)
	s.entries = slices.Concat(s.entries[:a], s.entries[b:])
	return nil
}

// IsMonotonic says that entries have no gaps.
func (s *store) IsMonotonic() bool { return true }

// committed notes how far the log is known to be committed.
func (s *store) committed(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commit = max(s.commit, index)
}

// known gives the entries that are known to be committed.
func (s *store) known() []*raft.Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, _ := s.find(s.commit + 1)
	return slices.Clone(s.entries[:n])
}

// Set is of raft.StableStore, as are the next methods.
func (s *store) Set(key, value []byte) error {
	if old, err := s.Get(key); err == nil && bytes.Equal(old, value) {
		return nil
	}
	err := s.write(func(tx *bbolt.Tx) error { return tx.Bucket(bucketVars).Put(key, value) })
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vars[string(key)] = bytes.Clone(value)
	return nil
}

func (s *store) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value, ok := s.vars[string(key)]; ok {
		return value, nil
	}
	return nil, errNotFound
}

func (s *store) SetUint64(key []byte, value uint64) error {
	err := s.Set(key, binary.BigEndian.AppendUint64(nil, value))
	if err != nil && string(key) == varTerm {
		// Raft panics if it cannot save its term, and that ends the process. The store is closed only when this
		// goroutine is to end as well.
		runtime.Goexit()
	}
	return err
}

func (s *store) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: %s", ErrDamaged, key)
	}
	return binary.BigEndian.Uint64(b), nil
}
