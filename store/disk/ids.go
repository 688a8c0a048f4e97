package disk

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/watchbox-go/watchbox/store"
)

// idsFile is the file in a store's folder that says which ids may have been given out. It is
// independent of the engine. If the engine lost its last writes, the file ensures that no id is given out
// twice and that listeners get a gap. It is written before the folder becomes a store.
const idsFile = "ids"

// ids is the content of idsFile.
type ids struct {
	epoch   string
	life    uint64    // how often the log was opened; also stored in the engine
	ceiling store.Seq // no id above it was given out
	ending  ending
}

// ending says how the log ended. While the log is open, it is the value for a kill.
type ending string

const (
	cutOff   ending = "cut"   // open or killed, with --fsync always: acknowledged messages are on disk
	looseEnd ending = "loose" // open or killed, with another --fsync: the last acknowledged messages may be missing
	cleanEnd ending = "clean" // closed; the ceiling is the newest id
)

// A log that ends with looseEnd always has a gap, though a kill of the process alone loses nothing: the kernel
// still has what was written. The kernel's boot id would distinguish a kill from a power cut, but not from a disk that
// failed after the kill. The kernel then drops the pages that it could not write. It reports this to the next fsync of
// the file only while it keeps the inode in memory, and syncfs reports it only once, perhaps to another process.
// The log may then end between two chunks, which does not prove damage. Acknowledged messages would be lost
// without a gap.

func (i ids) String() string {
	text := fmt.Sprintf("%s %d %d %s", i.epoch, i.life, i.ceiling, i.ending)
	return fmt.Sprintf("%s %08x\n", text, crc32.ChecksumIEEE([]byte(text)))
}

// readIDs reads the file.
func readIDs(fs filesystem, dir string) (i ids, err error) {
	f, err := fs.Open(fs.PathJoin(dir, idsFile))
	if errors.Is(err, os.ErrNotExist) {
		return i, fmt.Errorf("%w: its file %s is missing: restore a backup", store.ErrCorrupt, idsFile)
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
	if _, err := fmt.Sscanf(text, "%s %d %d %s", &i.epoch, &i.life, &i.ceiling, &i.ending); err != nil || i.String() != text {
		return ids{}, fmt.Errorf("%w: the file %s: %w", store.ErrCorrupt, idsFile, errRecord)
	}
	return i, nil
}

// writeIDs writes the ceiling to disk.
func (l *Log) writeIDs(e ending) error {
	text := ids{l.epoch, l.lives, l.ceiling, e}.String()
	var err error
	l.opts.call(func() {
		err = l.engine.fs.whenThereIsRoom(func() error { return writeFile(l.opts.fs, l.opts.Dir, idsFile, text) })
	})
	if err != nil {
		l.engine.fail(err)
	}
	return err
}

// ending returns the value for the file while the log is open.
func (f Fsync) ending() ending {
	if f == Always {
		return cutOff
	}
	return looseEnd
}

// missesMessages compares the file with the state of the log, and reports whether acknowledged messages may be
// missing from the log.
func (i ids) missesMessages(epoch string, life uint64, newest store.Seq, damaged bool) (bool, error) {
	if i.life == 0 && epoch == "" {
		return false, nil // it was never opened
	}
	if epoch != i.epoch {
		return true, fmt.Errorf("%w: its ids have epoch %s, and its log has %q: restore a backup", store.ErrCorrupt, i.epoch, epoch)
	}
	if i.ending == cleanEnd && newest < i.ceiling || i.ending != cleanEnd && damaged {
		return true, nil
	}
	return life < i.life, nil
}

// missesMessages calls ids.missesMessages with the state that the facts give.
func (l *Log) missesMessages(known ids, facts map[string][]byte) (bool, error) {
	life, newest := record{b: facts[factLife]}, record{b: facts[factNewest]}
	return known.missesMessages(string(facts[factEpoch]), life.uint(), newest.seq(), l.engine.damaged)
}
