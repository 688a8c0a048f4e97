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

// formatFile says in a folder what it is, before the engine looks at it.
const (
	formatFile = "watchbox"
	formatLine = "watchbox disk store, format "
	format     = "1"
)

// checkFormat refuses a folder that something else is in, or a store of another format. One that
// is empty or not there becomes a store.
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

// early is what may be in a folder that is not yet a store.
var early = []string{"lost+found", idsFile, idsFile + ".new", formatFile + ".new"}

// writeFormat makes a folder be a store.
func writeFormat(fs filesystem, dir string) error {
	if err := writeFile(fs, dir, formatFile, formatLine+format+"\n"); err != nil {
		return err
	}
	return syncDir(fs, fs.PathDir(dir)) // the folder is an entry, too
}

// writeFile writes a small file, or leaves what there was.
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

// logDir is where in a store's folder the engine is.
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

// oneLine is an error that shows only its first line. The rest describes the inside of the engine.
type oneLine struct{ error }

func inOneLine(err error) error { return oneLine{err} }

// Error implements error.
func (e oneLine) Error() string {
	line, _, _ := strings.Cut(e.error.Error(), "\n")
	return line
}

// Unwrap returns the whole.
func (e oneLine) Unwrap() error { return e.error }

// describe says in one line what keeps a store from being read.
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
