//go:build unix

package access

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives f the owner and the group of the file at path, if there is one.
func keepOwner(f *os.File, path string) error {
	old, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
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
