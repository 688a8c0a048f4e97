//go:build unix

package access

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile waits for the exclusive lock of the file at path: a lock on a file with the suffix .lock beside it. It
// creates that file if it does not exist.
func lockFile(path string) (unlock func(), err error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil // closing the file releases the lock
}

// openLock opens that file, or creates it with the owner of the file at path. The owner of one that exists is not
// changed, because it may be a symbolic link to any file.
func openLock(path string) (*os.File, error) {
	const create = os.O_RDWR | os.O_CREATE | os.O_EXCL
	f, err := os.OpenFile(path+".lock", create, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return os.OpenFile(path+".lock", os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := keepOwner(f, path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
