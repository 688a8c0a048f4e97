package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

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
		if name != formatFile+".new" && name != "log" && name != "lost+found" {
			return fmt.Errorf("the folder has %s in it, and is no store: name one that is empty", name)
		}
	}
	if err := fs.MkdirAll(logDir(fs, dir), 0o700); err != nil {
		return err
	}
	fresh := fs.PathJoin(dir, formatFile+".new")
	f, err := fs.Create(fresh, "watchbox")
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, formatLine+format+"\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = fs.Rename(fresh, fs.PathJoin(dir, formatFile))
	}
	if err != nil {
		return err
	}
	return errors.Join(syncDir(fs, dir), syncDir(fs, fs.PathDir(dir))) // the folder is an entry, too
}

// logDir is where in a store's folder the engine is.
func logDir(fs filesystem, dir string) string { return fs.PathJoin(dir, "log") }

func syncDir(fs filesystem, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// describe says in one line what keeps a store from opening.
func describe(err error) error {
	line, _, _ := strings.Cut(err.Error(), "\n") // what follows is for those who know the engine
	switch {
	case strings.Contains(line, "lock") || strings.Contains(line, "resource temporarily unavailable"):
		return fmt.Errorf("another process uses it, or is not yet gone (%s)", line)
	case strings.Contains(line, "format major version"):
		return fmt.Errorf("it was written by a newer version (%s)", line)
	}
	return fmt.Errorf("%w: %s", store.ErrCorrupt, strings.TrimPrefix(line, store.ErrCorrupt.Error()+": "))
}
