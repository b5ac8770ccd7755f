package commit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"skein/internal/history"
	"skein/internal/replog"
)

const (
	hintFile  = "committed"
	hintBytes = 4096

	// hintPace is how often the hint is sent on its way to the disk: what a power cut leaves of it bounds how
	// much of the log recovery has to keep apart from what is known to be committed.
	hintPace = 100 * time.Millisecond
)

// hint keeps, in a mapped file, the LSN that readers have been shown: what survives a killed process at
// no cost per commit. After a power cut it may stand at an older value, never at one too high, since what it names
// had been flushed before. The LSN is there twice, the second time inverted; what a crash leaves between
// the two stores is read as the lower.
type hint struct {
	mu   sync.Mutex
	file *os.File
	page []byte // the file, mapped
	at   history.LSN
	sent history.LSN // what push has seen last
}

// openHint gives the hint of a node and what it says, 0 on a new node.
func openHint(path string) (*hint, history.LSN, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) != hintBytes {
		err = replog.WriteFileAtomic(path, append(binary.LittleEndian.AppendUint64(make([]byte, 8), ^uint64(0)), make([]byte, hintBytes-16)...))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("committed LSN: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, hintBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("map %s: %w", path, err), f.Close())
	}
	h := &hint{file: f, page: m}
	h.at = min(history.LSN(h.word(0).Load()), history.LSN(^h.word(1).Load()))
	return h, h.at, nil
}

func (h *hint) word(i int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&h.page[8*i])) }

// raise notes that readers will be shown everything up to lsn.
func (h *hint) raise(lsn history.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if lsn <= h.at || h.page == nil {
		return
	}
	h.at = lsn
	h.word(0).Store(uint64(lsn))
	h.word(1).Store(^uint64(lsn))
}

// push has the system start writing the page, without a wait and without a journal's commit: the next
// sync of the log makes it durable.
func (h *hint) push() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sent == h.at || h.page == nil {
		return
	}
	h.sent = h.at
	_ = unix.SyncFileRange(int(h.file.Fd()), 0, hintBytes, unix.SYNC_FILE_RANGE_WRITE) // a hint may be late
}

func (h *hint) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	page := h.page
	h.page = nil
	return errors.Join(unix.Munmap(page), h.file.Close())
}
