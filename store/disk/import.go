package disk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/watchbox-go/watchbox/store"
)

// ImportOptions are the options of Import.
type ImportOptions struct {
	// Moved promises that nothing was published to the exported store after the export. Listeners then
	// continue without a gap. Otherwise ids that the old store may have assigned after the export are
	// skipped, and listeners get a gap.
	Moved bool

	Read, Verified Progress // of the lines imported, and of the messages checked afterwards
}

// restoredAhead is how many ids Import skips: more than the old store can have assigned after the export.
const restoredAhead = 1 << 40

// importing is the name of the folder that holds the engine until the import is complete.
const importing = "importing"

// Import creates a store from the output of Export, with the same ids, in a folder that is empty or does
// not exist. The folder becomes a store only after everything is imported and checked. If that fails or
// the context ends first, the folder is left as it was.
func Import(ctx context.Context, dir string, from io.Reader, o ImportOptions) error {
	made, err := makeEmpty(dir)
	if err != nil {
		return err
	}
	if err = importInto(ctx, dir, from, o); err == nil {
		return nil
	}
	for _, left := range []string{importing, "log", idsFile} {
		_ = os.RemoveAll(filepath.Join(dir, left))
	}
	if made {
		_ = os.Remove(dir)
	}
	return inOneLine(err)
}

// makeEmpty creates the folder to import into, unless an empty one exists. made reports whether it did.
func makeEmpty(dir string) (made bool, err error) {
	info, err := os.Stat(dir)
	if made = errors.Is(err, os.ErrNotExist); made {
		if err = os.MkdirAll(dir, 0o700); err != nil {
			return false, err
		}
	} else if err != nil {
		return false, err
	} else if !info.IsDir() {
		return false, fmt.Errorf("%s is a file: name a new folder", dir)
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, entry := range list {
		if entry.Name() == importing {
			return false, fmt.Errorf("another import into %s is running or was interrupted: import into a new folder, or remove this one", dir)
		}
		if entry.Name() != "lost+found" {
			return false, fmt.Errorf("%s is not empty: import into a new folder", dir)
		}
	}
	return made, os.Mkdir(filepath.Join(dir, importing), 0o700)
}

func importInto(ctx context.Context, dir string, from io.Reader, o ImportOptions) error {
	fresh := filepath.Join(dir, importing)
	l, err := openFolder(fresh, false)
	if err != nil {
		return err
	}
	in := &imported{Log: l, ImportOptions: o, sum: newSum()}
	if err := firstError(in.fillFrom(from), l.engine.close()); err != nil {
		return err
	}
	if err := in.verify(ctx, fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, logDir(system, dir)); err != nil {
		return err
	}
	return firstError(writeFile(system, dir, idsFile, in.ids.String()), writeFormat(system, dir))
}

// imported is an import in progress.
type imported struct {
	*Log
	ImportOptions
	sum  *sum
	ids  ids
	done bool // the last line was read
}

// verify checks the imported store, since an export may have been made or edited by another program.
func (l *imported) verify(ctx context.Context, folder string) error {
	made, err := openFolder(folder, true)
	if err != nil {
		return err
	}
	var wrong error
	_, err = made.check(ctx, l.ids, func(problem string) {
		if wrong == nil {
			wrong = fmt.Errorf("the export is not whole: %s", problem)
		}
	}, l.Verified)
	return firstError(wrong, err, made.engine.close())
}

// fillFrom imports the lines of an export.
func (l *imported) fillFrom(from io.Reader) error {
	in := bufio.NewReaderSize(from, 1<<20)
	for end := false; !end; {
		var wrong error // an error of the input, not of the engine
		if err := l.engine.commit(false, func(b *batch) error {
			for b.Len() < maxTurn && !end && wrong == nil {
				line, err := readLine(in)
				if end = err == io.EOF; err != nil && !end {
					wrong = err
				}
				if len(bytes.TrimSpace(line)) == 0 || wrong != nil {
					continue
				}
				if err := l.restore(b, line); err != nil {
					wrong = fmt.Errorf("line %d: %w", l.sum.lines+1, err)
				} else if l.ImportOptions.Read != nil {
					l.ImportOptions.Read(len(line), 0)
				}
			}
			return nil
		}); err != nil {
			return err
		}
		switch {
		case wrong != nil:
			return wrong
		case end && l.sum.lines == 0:
			return errors.New("the export is empty")
		case end && !l.done:
			return errors.New("the export was cut off: its last line, of type end, is missing")
		}
	}
	return l.engine.sync()
}

// longestLine limits a line of an export, in bytes. Export writes none that is longer.
const longestLine = 256 << 20

// readLine reads a line with its line feed, or the rest of the input.
func readLine(in *bufio.Reader) (line []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if err != bufio.ErrBufferFull {
			return line, err
		}
		if len(line) > longestLine {
			return nil, errors.New("a line is longer than any line of an export")
		}
	}
}

// restore imports one line.
func (l *imported) restore(b *batch, line []byte) error {
	var o other
	if err := json.Unmarshal(line, &o); err != nil {
		return fmt.Errorf("it is not a line of an export: %w", err)
	}
	switch {
	case l.sum.lines == 0:
		if err := l.begin(&o); err != nil {
			return err
		}
	case l.done:
		return errors.New("it follows the last line, of type end")
	case o.Type == lastLine:
		l.done = true
		if want := l.sum.end(); o.Lines != want.Lines || o.SHA256 != want.SHA256 {
			return errors.New("the lines before it were changed after the export")
		}
		l.finish()
		return nil
	case o.Type == "":
		if err := l.restoreMessage(b, bytes.TrimSpace(line), false); err != nil {
			return err
		}
	case o.Type == "retained":
		if err := l.restoreMessage(b, o.Msg, true); err != nil {
			return err
		}
	default:
		if err := l.restoreOther(b, &o); err != nil {
			return err
		}
	}
	_, _ = l.sum.Write(line)
	return nil
}

// begin imports the first line.
func (l *imported) begin(o *other) (err error) {
	switch {
	case o.Type != firstLine || o.Format == "":
		return errors.New(`an export begins with {"type":"store",…}: this is something else`)
	case o.Format != format:
		return fmt.Errorf("the export has format %.20s, and this version knows format %s: use a newer watchbox", o.Format, format)
	}
	l.ids, err = parseIDs(o.IDs)
	return err
}

// finish has the store treat messages published after the export as lost in a crash, unless it was moved.
func (l *imported) finish() {
	if l.Moved {
		return
	}
	l.ids.ceiling += restoredAhead
	l.ids.ending = looseEnd
}

// restoreOther imports a line other than a message.
func (l *imported) restoreOther(b *batch, o *other) error {
	for _, kind := range lines {
		if o.Type != kind.kind {
			continue
		}
		if len(o.Key) == 0 || o.Key[0] != kind.space {
			return fmt.Errorf("its key is not a key of a %s", o.Type)
		}
		if kind.space == groupSpace {
			g, err := readGroup(o.Key, o.Value)
			if err != nil {
				return err
			}
			l.groups[g.name], l.byNo[g.no] = g, g
		}
		return b.Set(o.Key, o.Value, nil)
	}
	return fmt.Errorf("its type is %q, which this version does not know", o.Type)
}

func (l *imported) restoreMessage(b *batch, data []byte, retained bool) error {
	var w wire
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	id, err := store.ParseID(w.ID)
	if err != nil {
		return err
	}
	g := l.groups[w.Group]
	if g == nil {
		return fmt.Errorf("a message of group %q, which no earlier line describes", w.Group)
	}
	m := store.Message{
		Group: w.Group, UID: w.UID, Event: w.Event, Meta: w.Meta, Time: w.Time, Expires: w.Expires,
		Retain: w.Retain, Base64: w.Encoding == "base64", Msg: w.Msg,
	}
	e := m.Entry(nil)
	frame, msg := e.AppendFrame(nil, id)
	if f := (store.Frame{Flags: e.Flags(), Msg: msg, Bytes: frame}); !bytes.Equal(f.Data(), data) {
		return errors.New("the message differs from what a hub writes")
	}
	h := header{no: g.no, time: w.Time.UnixMilli(), msg: msg, flags: e.Flags()}
	if !retained {
		l.clock = max(l.clock, h.time) // times rise with seqs, though clocks are put back
		h.time = l.clock
	}
	if !w.Expires.IsZero() {
		h.expires = w.Expires.UnixMilli()
	}
	value := make([]byte, headerSize, headerSize+len(frame))
	h.put(value)
	if h.expires > 0 {
		if err := b.Set(expiryKey(h.expires, id.Seq), groupKey(g.no)[1:], nil); err != nil {
			return err
		}
	}
	if retained {
		return b.Set(seqKey(retainedSpace, id.Seq), append(value, frame...), nil)
	}
	if err := b.Set(seqKey(messageSpace, id.Seq), append(value, frame...), nil); err != nil {
		return err
	}
	i := item{seq: id.Seq, size: len(frame), time: h.time, expires: h.expires}
	return b.Set(indexKey(g.no, id.Seq), i.appendIndex(nil), nil)
}
