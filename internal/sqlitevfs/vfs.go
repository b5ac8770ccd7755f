// Package sqlitevfs is SQLite's file system on the page store. To SQLite a database is a file in
// rollback-journal mode; here the "file" is a snapshot: taking SHARED pins an LSN, dirty pages stay
// private to the connection, and the end of SQLite's commit hands them to the Committer as one
// transaction. SQLite's own journal serves only its statement rollbacks; it lies in a temporary file
// that never outlives the transaction.
//
// A File belongs to one connection and is used from the goroutine that uses the connection. Nothing
// here survives a crash: what does is the Committer's business.
package sqlitevfs

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"sync"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"

	"skein/internal/history"
	"skein/internal/pagestore"
)

// Committer makes transactions real.
type Committer interface {
	// Commit appends what the database's only writer changed and takes the pages over. base is what the
	// writer's transaction stands on. It gives the new LSN, or 0 if nothing had changed. After an error the
	// pages are still the caller's.
	Commit(db *pagestore.DB, base history.LSN, dirty []pagestore.Dirty, pages uint32) (history.LSN, error)
	// Visible is the LSN that a new reader stands on.
	Visible() history.LSN
}

// VFS gives SQLite connections to the databases of one store.
type VFS struct {
	name      string
	committer Committer
	store     *pagestore.Store
	temp      *TempSpace

	mu      sync.Mutex
	writers map[history.DatabaseID]*File // who holds the write lock
}

// Register makes a store's databases known to SQLite until Unregister. name must be free.
func Register(name string, store *pagestore.Store, c Committer, temp *TempSpace) (*VFS, error) {
	if vfs.Find(name) != nil {
		return nil, fmt.Errorf("register SQLite VFS: %q is taken", name)
	}
	v := &VFS{name: name, committer: c, store: store, temp: temp, writers: map[history.DatabaseID]*File{}}
	vfs.Register(name, v)
	return v, nil
}

// Unregister takes the name back. Every connection must be closed.
func (v *VFS) Unregister() { vfs.Unregister(v.name) }

// URI is what sqlite3.Open takes for a connection to database id.
func (v *VFS) URI(id history.DatabaseID) string {
	return fmt.Sprintf("file:/%d?vfs=%s", id, v.name)
}

// FileOf gives the File under a connection that was opened with a URI of this package.
func FileOf(c *sqlite3.Conn) (*File, error) {
	f, err := c.FileControl("main", sqlite3.FCNTL_FILE_POINTER)
	if err != nil {
		return nil, err
	}
	for {
		switch file := f.(type) {
		case *File:
			return file, nil
		case vfs.FileUnwrap: // the binding puts its own checksum layer on top
			f = file.Unwrap()
		default:
			return nil, errors.New("not a connection to a Skein database")
		}
	}
}

// Open opens a database, or a temporary file for anything else.
func (v *VFS) Open(name string, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	if flags&vfs.OPEN_MAIN_DB == 0 {
		return v.temp.file(), flags, nil
	}
	id, err := strconv.ParseUint(path.Base(name), 10, 32)
	if err != nil {
		return nil, flags, sqlite3.CANTOPEN
	}
	db := v.store.DB(history.DatabaseID(id))
	if db == nil {
		return nil, flags, sqlite3.CANTOPEN
	}
	return &File{vfs: v, db: db}, flags, nil
}

// Delete has nothing to do: journals end with their transaction.
func (v *VFS) Delete(string, bool) error { return nil }

// Access says that no journal is ever left behind.
func (v *VFS) Access(string, vfs.AccessFlag) (bool, error) { return false, nil }

// FullPathname leaves names as they are.
func (v *VFS) FullPathname(name string) (string, error) { return name, nil }

// own takes the write lock of f's database, unless another connection has it.
func (v *VFS) own(f *File) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	owner := v.writers[f.db.ID]
	if owner != nil && owner != f {
		return false
	}
	v.writers[f.db.ID] = f
	return true
}

func (v *VFS) disown(f *File) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.writers[f.db.ID] == f {
		delete(v.writers, f.db.ID)
	}
}
