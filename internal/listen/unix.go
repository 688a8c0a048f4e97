package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
)

// socketPath returns the path of an address such as unix:/run/watchbox.sock.
func socketPath(addr string) (path string, ok bool) { return strings.CutPrefix(addr, "unix:") }

// socket is a listener on a Unix socket.
type socket struct {
	*net.UnixListener
	path   string
	file   fs.FileInfo // of the socket
	remove sync.Once
}

// Close removes the socket's file and closes the listener. It leaves the file of another server, which was started
// after somebody had removed the file of this one.
func (s *socket) Close() error {
	s.remove.Do(func() {
		if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
			_ = os.Remove(s.path)
		}
	})
	return s.UnixListener.Close()
}

// listenUnix listens on a Unix socket. Closing it removes its file.
func listenUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	if path == "" {
		return nil, errors.New("listen: name a path, such as unix:/run/watchbox.sock")
	}
	if most := len(syscall.RawSockaddrUnix{}.Path) - 1; len(path) > most {
		return nil, fmt.Errorf("listen unix:%s: the path of a socket has at most %d bytes", path, most)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	file, err := os.Lstat(path)
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	s := &socket{UnixListener: ln.(*net.UnixListener), path: path, file: file}
	s.SetUnlinkOnClose(false) // Close removes the file
	return s, nil
}

// removeStale removes a stale socket: one that no process listens on, because its process did not shut down
// cleanly.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("listen: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("listen unix:%s: the file exists and is not a socket", path)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Errorf("listen unix:%s: another process listens on it", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("listen: the socket exists: %w", err)
}
