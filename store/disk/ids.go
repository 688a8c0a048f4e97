package disk

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/watchbox-go/watchbox/store"
)

// idsFile says in a store's folder which ids may have been given out. It is none of the engine's:
// should that have lost what it wrote last, no id is given a second time all the same.
const idsFile = "ids"

// ids is what it says.
type ids struct {
	epoch   string
	life    uint64    // how often the log was opened; the engine knows it, too
	ceiling store.Seq // no id above it was given out
}

func (i ids) String() string {
	text := fmt.Sprintf("%s %d %d", i.epoch, i.life, i.ceiling)
	return fmt.Sprintf("%s %08x\n", text, crc32.ChecksumIEEE([]byte(text)))
}

// readIDs reads the file. Where there is none, nothing was given out.
func readIDs(fs filesystem, dir string) (i ids, err error) {
	f, err := fs.Open(fs.PathJoin(dir, idsFile))
	if errors.Is(err, os.ErrNotExist) {
		return i, nil
	}
	if err != nil {
		return i, err
	}
	text, err := io.ReadAll(io.LimitReader(f, 200))
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return i, err
	}
	return parseIDs(string(text))
}

func parseIDs(text string) (i ids, err error) {
	if _, err := fmt.Sscanf(text, "%s %d %d", &i.epoch, &i.life, &i.ceiling); err != nil || i.String() != text {
		return ids{}, fmt.Errorf("%w: the file %s: %w", store.ErrCorrupt, idsFile, errRecord)
	}
	return i, nil
}

// writeIDs has it be on disk that no id above the ceiling is given out.
func (l *Log) writeIDs() error {
	text := ids{l.epoch, l.lives, l.ceiling}.String()
	var err error
	l.opts.call(func() {
		err = l.engine.fs.whenThereIsRoom(func() error { return writeFile(l.opts.fs, l.opts.Dir, idsFile, text) })
	})
	if err != nil {
		l.engine.fail(err)
	}
	return err
}

// compare compares what the file says with what the engine has. Lost reports whether that is not
// all.
func (i ids) compare(epoch string, life uint64) (lost bool, err error) {
	switch {
	case i.epoch == "": // it is new
		return false, nil
	case epoch != i.epoch:
		return false, fmt.Errorf("%w: its ids have epoch %s, and its log has %q: restore a backup", store.ErrCorrupt, i.epoch, epoch)
	}
	return life < i.life, nil
}
