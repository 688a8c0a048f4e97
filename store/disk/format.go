package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/watchbox-go/watchbox/store"
)

// formatFile is a file that marks a folder as a store and names the format. It is read before the engine
// opens the folder.
const (
	formatFile = "watchbox"
	formatLine = "watchbox disk store, format "
	format     = "1"
)

// checkFormat refuses a folder that holds anything but a store of this format. A folder that is empty or
// does not exist becomes a store.
func checkFormat(fs filesystem, dir string) error {
	f, err := fs.Open(fs.PathJoin(dir, formatFile))
	if errors.Is(err, os.ErrNotExist) {
		return makeFormat(fs, dir)
	}
	if err != nil {
		return err
	}
	line, err := io.ReadAll(io.LimitReader(f, 100))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	switch found, ok := strings.CutPrefix(strings.TrimSpace(string(line)), formatLine); {
	case !ok:
		return fmt.Errorf("its file %s does not say what it is", formatFile)
	case found != format:
		return fmt.Errorf("it has format %.20s, and this version knows format %s: use a newer watchbox", found, format)
	}
	return nil
}

func makeFormat(fs filesystem, dir string) error {
	list, err := fs.List(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, name := range list {
		inside, _ := fs.List(fs.PathJoin(dir, name)) // an error: it is no folder
		if !slices.Contains(early, name) && (name != "log" || len(inside) > 0) {
			return fmt.Errorf("the folder has %s in it, and is no store: name one that is empty", name)
		}
	}
	if err := fs.MkdirAll(logDir(fs, dir), 0o700); err != nil {
		return err
	}
	if err := writeFile(fs, dir, idsFile, ids{epoch: store.NewEpoch(), ending: cleanEnd}.String()); err != nil {
		return err
	}
	return writeFormat(fs, dir)
}

// early lists the files that a folder may hold before it becomes a store. A hub keeps its certificates there, and
// operators keep its token file there (docs/DEPLOYING.md).
var early = []string{"lost+found", "acme", "tokens.json", "tokens.json.lock", idsFile, idsFile + ".new", formatFile + ".new"}

// writeFormat turns a folder into a store.
func writeFormat(fs filesystem, dir string) error {
	if err := writeFile(fs, dir, formatFile, formatLine+format+"\n"); err != nil {
		return err
	}
	return syncDir(fs, fs.PathDir(dir)) // the folder is an entry, too
}

// writeFile replaces a small file atomically.
func writeFile(fs filesystem, dir, name, text string) error {
	fresh := fs.PathJoin(dir, name+".new")
	f, err := fs.Create(fresh, "watchbox")
	if err != nil {
		return err
	}
	if _, err = io.WriteString(f, text); err == nil {
		err = f.Sync()
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = fs.Rename(fresh, fs.PathJoin(dir, name))
	}
	if err == nil {
		err = syncDir(fs, dir)
	}
	return err
}

// logDir returns the engine's folder inside a store's folder.
func logDir(fs filesystem, dir string) string { return fs.PathJoin(dir, "log") }

func syncDir(fs filesystem, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if err2 := d.Close(); err == nil {
		err = err2
	}
	return err
}

// oneLine is an error whose text is only the first line of the error it wraps. The other lines describe the
// engine's internals.
type oneLine struct{ error }

func inOneLine(err error) error { return oneLine{err} }

// Error implements error.
func (e oneLine) Error() string {
	line, _, _ := strings.Cut(e.error.Error(), "\n")
	return line
}

// Unwrap returns the wrapped error.
func (e oneLine) Unwrap() error { return e.error }

// describe returns an error that says in one line why a store cannot be read.
func describe(err error) error {
	line := inOneLine(err).Error()
	switch {
	case errors.Is(err, errInUse):
		return errInUse
	case isFull(err):
		return fmt.Errorf("the disk is full, make some room: %s", line)
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EIO):
		return errors.New(line)
	case errors.Is(err, errMissing):
		return fmt.Errorf("%w: nothing is left of its log: restore a backup", store.ErrCorrupt)
	case strings.Contains(line, "format major version"):
		return fmt.Errorf("it was written by a newer version (%s)", line)
	}
	return fmt.Errorf("%w: %s", store.ErrCorrupt, strings.TrimPrefix(line, store.ErrCorrupt.Error()+": "))
}
