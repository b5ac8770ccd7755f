//go:build unix

package replication

import "golang.org/x/sys/unix"

// space is what this process may still write to the disk of dir, and the size of that, in bytes.
func space(dir string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), nil
}
