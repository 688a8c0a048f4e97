//go:build unix

package access

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// keepOwner gives f, a new file, the owner and the group of the file at path. If there is none and the process is
// root's, f gets those of the directory: root creates the token file of a hub that runs as another user.
func keepOwner(f *os.File, path string) error {
	old, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if os.Geteuid() != 0 {
			return nil
		}
		old, err = os.Stat(filepath.Dir(path))
	}
	if err != nil {
		return err
	}
	made, err := f.Stat()
	if err != nil {
		return err
	}
	from, to := made.Sys().(*syscall.Stat_t), old.Sys().(*syscall.Stat_t)
	if from.Uid == to.Uid && from.Gid == to.Gid {
		return nil
	}
	return f.Chown(int(to.Uid), int(to.Gid))
}
