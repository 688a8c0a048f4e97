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

// ImportOptions say what becomes of an export.
type ImportOptions struct {
	// Moved says that nothing was published to the exported store after the export, so that listeners
	// go on as if this one were it. Otherwise ids that it may have given out since are not given
	// again, and listeners are told of a gap.
	Moved bool

	Read, Verified Progress // of the lines, and of the messages as they are read again
}

// restoredAhead is how many ids a store may have given out after it was exported.
const restoredAhead = 1 << 40

// importing is where the engine of a store is made, until all is in it.
const importing = "importing"

// Import makes a store of what Export has written, with the same ids, in a folder that is empty or
// not there. It is a store when all is in it and was checked, and not before; nor is it one, if the
// context ends before that.
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

// makeEmpty makes a folder to import into, unless there is an empty one.
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
			return false, fmt.Errorf("another import into %s is under way, or was cut off: name a new folder, or remove it", dir)
		}
		if entry.Name() != "lost+found" {
			return false, fmt.Errorf("there is something in %s: import into a new folder", dir)
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

// imported is an import under way.
type imported struct {
	*Log
	ImportOptions
	sum  *sum
	ids  ids
	done bool // the last line was read
}

// verify reads what was imported, which may have been put together by somebody else.
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

// fillFrom writes what an export's lines say.
func (l *imported) fillFrom(from io.Reader) error {
	in := bufio.NewReaderSize(from, 1<<20)
	for end := false; !end; {
		var wrong error // of the input: the engine is well
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
			return errors.New("there is no line to import")
		case end && !l.done:
			return errors.New("the export was cut off: its last line, of type end, is missing")
		}
	}
	return l.engine.sync()
}

// longestLine is more than any line of an export has, in bytes.
const longestLine = 256 << 20

// readLine reads a line with its end, or what is left.
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

// restore writes what one line says.
func (l *imported) restore(b *batch, line []byte) error {
	var o other
	if err := json.Unmarshal(line, &o); err != nil {
		return fmt.Errorf("it is no line of an export: %w", err)
	}
	switch {
	case l.sum.lines == 0:
		if err := l.begin(&o); err != nil {
			return err
		}
	case l.done:
		return errors.New("it is behind the last")
	case o.Type == lastLine:
		l.done = true
		if want := l.sum.end(); o.Lines != want.Lines || o.SHA256 != want.SHA256 {
			return errors.New("the lines before it are not those that were exported")
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

// begin reads the first line.
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

// finish has the store be as after a crash that may have taken what came after the export.
func (l *imported) finish() {
	if l.Moved {
		return
	}
	l.ids.ceiling += restoredAhead
	l.ids.ending = looseEnd
}

// restoreOther writes what a line says that is no message.
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
		Group: w.Group, UID: w.UID, Event: w.Event, Time: w.Time, Expires: w.Expires,
		Retain: w.Retain, Base64: w.Encoding == "base64", Msg: w.Msg,
	}
	e := m.Entry(nil)
	frame, msg := e.AppendFrame(nil, id)
	if f := (store.Frame{Flags: e.Flags(), Msg: msg, Bytes: frame}); !bytes.Equal(f.Data(), data) {
		return errors.New("a message that is not as a hub writes it")
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
