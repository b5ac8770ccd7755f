package node

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"skein/internal/replog"
)

// FormatVersion is the version of the directory's layout. A higher one is refused.
const FormatVersion = 1

const (
	identityFile = "node.json"
	lockFile     = "lock"
	lifeFile     = "life" // says when the file system made it, of which a copy of what it said before is wrong
)

var (
	errInUse = errors.New("another skein process is using this directory")
	errNewer = errors.New("this directory was written by a newer version of Skein")
)

// identity says whose directory it is. It is written once, when the directory is made, and again when it was moved.
type identity struct {
	Format  int    `json:"format_version"`
	Cluster string `json:"cluster_id"`
	Node    string `json:"node_id"`
	Disk    string `json:"disk_id"`           // a wiped and refilled directory has another
	Made    int64  `json:"made_ns,omitempty"` // when the file system made the lock file, ns since 1970. In a copy it is another; 0: not known
}

// home is a node's directory, held against other processes for as long as it is open.
type home struct {
	identity
	Cluster replog.Cluster
	dir     string
	lock    *os.File
}

// openHome takes the directory, making it when it is missing. A new one has no identity before begin.
func openHome(dir string) (*home, error) {
	if err := replog.MakeDir(dir); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w; stop it first, or give this node a --dir of its own", dir, errInUse)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	h := &home{dir: dir, lock: lock}
	if err := h.identify(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return h, nil
}

// isCopy says whether the directory was brought here file by file, as a backup is restored, or over the files that were here. It may be older than
// what this node was last: what it has promised and acknowledged since it does not know. A file system that was taken back as a whole is not noticed.
func (h *home) isCopy() bool {
	made := madeAt(h.lock)
	return h.Made != 0 && made != 0 && h.Made != made || h.isOfAnotherLife()
}

// isOfAnotherLife says whether what the life file says was written into another one before.
func (h *home) isOfAnotherLife() bool {
	f, err := os.Open(filepath.Join(h.dir, lifeFile))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	said, made := int64(0), madeAt(f)
	_, err = fmt.Fscan(f, &said)
	return err == nil && said != 0 && made != 0 && said != made
}

// renew begins a new life: whatever was copied from here before is of another.
func (h *home) renew() error {
	path := filepath.Join(h.dir, lifeFile)
	next := path + ".new"
	_ = os.Remove(next)
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.FormatInt(madeAt(f), 10) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(next, path) // a crash may bring the one before back, as it was
}

// settle makes a copy the directory that it is a copy of.
func (h *home) settle() error {
	h.Made = madeAt(h.lock)
	return errors.Join(h.write(), h.renew())
}

// isNew says whether the directory has no identity yet.
func (h *home) isNew() bool { return h.Node == "" }

func (h *home) identify() error {
	path := filepath.Join(h.dir, identityFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &h.identity); err != nil {
		return fmt.Errorf("%s is not readable (%w); restore it from a backup of the directory", path, err)
	}
	if h.Format > FormatVersion {
		return fmt.Errorf("%s: %w: format %d, this one reads up to %d", h.dir, errNewer, h.Format, FormatVersion)
	}
	id, err := hex.DecodeString(h.identity.Cluster)
	if err != nil || len(id) != len(h.Cluster) || h.Node == "" {
		return fmt.Errorf("%s is not readable; restore it from a backup of the directory", path)
	}
	h.Cluster = replog.Cluster(id)
	return nil
}

// begin makes a new node's identity, of a new cluster or of the one that it joins. A directory that already
// holds data never gets one.
func (h *home) begin(cluster *replog.Cluster) error {
	for _, name := range []string{"db", "log"} {
		if _, err := os.Stat(filepath.Join(h.dir, name)); err == nil {
			return fmt.Errorf("%s holds data but no %s; restore the file from a backup of the directory", h.dir, identityFile)
		}
	}
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	h.Cluster = replog.Cluster(random[:16])
	if cluster != nil {
		h.Cluster = *cluster
	}
	h.identity = identity{
		Format: FormatVersion, Cluster: hex.EncodeToString(h.Cluster[:]), Node: hex.EncodeToString(random[16:24]), Disk: hex.EncodeToString(random[24:]),
		Made: madeAt(h.lock),
	}
	return h.write()
}

func (h *home) write() error {
	b, err := json.MarshalIndent(h.identity, "", "  ")
	if err != nil {
		return err
	}
	return replog.WriteFileAtomic(filepath.Join(h.dir, identityFile), append(b, '\n'))
}

// Close lets the directory go.
func (h *home) Close() error { return h.lock.Close() }
