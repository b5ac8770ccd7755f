package control

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"skein/internal/fault"
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

	bucketLog     = []byte("log")
	bucketSummary = []byte("summary")
	keySummary    = []byte("summary")
	errNotFound   = errors.New("not found") // Raft goes by the text

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// store is Raft's log and variables: a bbolt file, and in memory the log, which is short. After openStore nothing is
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

	// turn is taken to write. It is held across I/O: what is written depends on what was written before.
	turn chan struct{}

	mu      sync.Mutex
	entries []*raft.Log // in order of Index
	summary summary
	commit  uint64    // how far entries are known to be committed. It goes with the next write
	writes  int       // under way
	since   time.Time // at least one has been under way
	trouble error     // of the newest write that failed, until one succeeds

	fault func() error // of tests; runs before each write
}

// summary is what the file holds besides entries. All of it is written with every change: bbolt notices damage to its pages
// only by chance, and a log that has lost its end, or a vote that was forgotten, must not pass for whole.
type summary struct {
	FormatVersion int
	Store         string // see store.id
	Commit        uint64
	First, Last   uint64 // of the log; 0 while it is empty
	Vars          map[string][]byte
}

// openStore opens the store in dir, or makes one.
func openStore(dir string) (_ *store, err error) {
	defer survive(&err)()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, storeFile)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, openError(path, err)
	}
	s := &store{db: db, closing: make(chan struct{}), turn: make(chan struct{}, 1)}
	s.giveUp = sync.OnceFunc(func() { close(s.closing) })
	s.close = sync.OnceValue(func() error {
		s.giveUp()
		return db.Close()
	})
	defer func() {
		if s.id == "" { // an error, or a panic
			_ = s.close()
		}
	}()
	if err := errors.Join(s.prepare(), s.load()); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return s, nil
}

// survive makes an error of what bbolt does with damaged pages, and with pages that a disk does not give: it
// reads them as memory, and trusts them. Such a disk must not end a node that could serve its data.
func survive(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		if p := recover(); p != nil {
			*err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}
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

// prepare fills a new file, to which nothing has been written. A disk that is full does not keep an old one from being
// opened.
func (s *store) prepare() error {
	isNew := false
	err := s.db.View(func(tx *bbolt.Tx) error {
		isNew = tx.ID() <= 1 // bbolt itself begins with that
		return nil
	})
	if err != nil || !isNew {
		return err
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	return s.db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(bucketLog)
		_, err2 := tx.CreateBucket(bucketSummary)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		return putSummary(tx, summary{FormatVersion: formatVersion, Store: hex.EncodeToString(id[:])})
	})
}

func putSummary(tx *bbolt.Tx, r summary) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(b, castagnoli))
	return tx.Bucket(bucketSummary).Put(keySummary, append(sum, b...))
}

func getSummary(tx *bbolt.Tx) (r summary, err error) {
	var b []byte
	if bucket := tx.Bucket(bucketSummary); bucket != nil {
		b = bucket.Get(keySummary)
	}
	if len(b) < 4 || crc32.Checksum(b[4:], castagnoli) != binary.BigEndian.Uint32(b) {
		return r, fmt.Errorf("%w: its variables", ErrDamaged)
	}
	return r, json.Unmarshal(b[4:], &r)
}

// load reads everything.
func (s *store) load() error {
	return s.db.View(func(tx *bbolt.Tx) (err error) {
		if s.summary, err = getSummary(tx); err != nil {
			return err
		}
		if v := s.summary.FormatVersion; v != formatVersion {
			return fmt.Errorf("it has format version %d, this program reads %d", v, formatVersion)
		}
		if log := tx.Bucket(bucketLog); log == nil {
			return fmt.Errorf("%w: it has no log", ErrDamaged)
		} else if err := log.ForEach(s.loadEntry); err != nil {
			return err
		}
		if first, last := s.bounds(); first != s.summary.First || last != s.summary.Last {
			return fmt.Errorf("%w: its log goes from %d to %d instead of from %d to %d", ErrDamaged, first, last, s.summary.First, s.summary.Last)
		}
		s.id, s.commit = s.summary.Store, s.summary.Commit
		return nil
	})
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

// write runs one transaction, however long that takes, and then done, with the lock. Its error is errClosing.
func (s *store) write(fn func(log *bbolt.Bucket, r *summary) error, done func()) error {
	s.begin()
	defer s.end()
	select {
	case s.turn <- struct{}{}:
	case <-s.closing:
		return errClosing
	}
	defer func() { <-s.turn }()
	for {
		s.mu.Lock()
		r := s.summary
		r.Vars = maps.Clone(r.Vars)
		r.Commit = s.commit
		s.mu.Unlock()
		err := s.try(fn, &r)
		s.mu.Lock()
		if s.trouble = err; err == nil {
			s.summary = r
			done()
		}
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

func (s *store) try(fn func(*bbolt.Bucket, *summary) error, r *summary) (err error) {
	defer survive(&err)()
	if s.fault != nil {
		if err := s.fault(); err != nil {
			return err
		}
	}
	if err := fault.Hit("control.write"); err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		if err := fn(tx.Bucket(bucketLog), r); err != nil {
			return err
		}
		return putSummary(tx, *r)
	})
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

// bounds gives the first and last index, 0 for none; mu is held.
func (s *store) bounds() (first, last uint64) {
	if len(s.entries) == 0 {
		return 0, 0
	}
	return s.entries[0].Index, s.entries[len(s.entries)-1].Index
}

// FirstIndex is of raft.LogStore, as are the next methods.
func (s *store) FirstIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, _ := s.bounds()
	return first, nil
}

func (s *store) LastIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, last := s.bounds()
	return last, nil
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

// StoreLogs appends. Raft deletes what it overwrites before.
func (s *store) StoreLogs(all []*raft.Log) error {
	if len(all) == 0 {
		return nil
	}
	return s.write(func(log *bbolt.Bucket, r *summary) error {
		if r.Last != 0 && all[0].Index != r.Last+1 {
			return fmt.Errorf("%w: entry %d was to follow %d", ErrDamaged, all[0].Index, r.Last)
		}
		for _, l := range all {
			if err := log.Put(encodeEntry(l)); err != nil {
				return err
			}
		}
		if r.First == 0 {
			r.First = all[0].Index
		}
		r.Last = all[len(all)-1].Index
		return nil
	}, func() {
		for _, l := range all {
			kept := *l
			s.entries = append(s.entries, &kept)
		}
	})
}

// DeleteRange is asked for the beginning of the log, after a snapshot, or for its end.
func (s *store) DeleteRange(from, to uint64) error {
	return s.write(func(log *bbolt.Bucket, r *summary) error {
		for index := max(from, r.First); index <= min(to, r.Last); index++ {
			if err := log.Delete(binary.BigEndian.AppendUint64(nil, index)); err != nil {
				return err
			}
		}
		switch {
		case from <= r.First && to >= r.Last:
			r.First, r.Last = 0, 0
		case from <= r.First:
			r.First = max(r.First, to+1)
		default:
			r.Last = min(r.Last, from-1)
		}
		return nil
	}, func() {
		a, _ := s.find(from)
		b, _ := s.find(to + 1)
		s.entries = slices.Concat(s.entries[:a], s.entries[b:])
	})
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
	return s.write(func(_ *bbolt.Bucket, r *summary) error {
		if r.Vars == nil {
			r.Vars = map[string][]byte{}
		}
		r.Vars[string(key)] = bytes.Clone(value)
		return nil
	}, func() {})
}

func (s *store) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value, ok := s.summary.Vars[string(key)]; ok {
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
