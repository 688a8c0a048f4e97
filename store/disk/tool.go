package disk

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	names "github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// Summary is what Check found.
type Summary struct {
	Groups, Messages, Bytes int64 // that are held; bytes of their frames
	Oldest, Newest          store.ID
}

// openTool opens a store that is there for a tool: nothing is changed, and nobody else may have it
// open.
func openTool(dir string) (*Log, error) {
	l := newTool(dir)
	if _, err := os.Stat(filepath.Join(dir, formatFile)); err != nil {
		return nil, fmt.Errorf("there is no store in %s", dir)
	}
	err := checkFormat(l.opts.fs, dir)
	if err == nil {
		if err = l.openLog(dir); err == nil {
			if err = errors.Join(l.loadPolicies(), l.loadGroups()); err != nil {
				err = errors.Join(err, l.engine.close())
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the store in %s: %w", dir, err)
	}
	return l, nil
}

func newTool(dir string) *Log {
	return &Log{
		opts:   Options{Dir: dir, MaxMemory: toolMemory, fs: system, call: direct},
		groups: map[string]*group{}, byNo: map[uint32]*group{},
	}
}

// toolMemory is what a tool may take, in bytes, for what the engine caches.
const toolMemory = 64 << 20

func (l *Log) openLog(dir string) (err error) {
	if l.engine, err = openEngine(system, filepath.Join(dir, "log"), false, toolMemory, 0, direct); err != nil {
		return describe(err)
	}
	return nil
}

// Check reads all of a store that no hub has open, and says what is not as it should be: nothing, if
// all is well. The error says why it could not be read.
func Check(dir string, problem func(string)) (s Summary, err error) {
	l, err := openTool(dir)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, l.engine.close()) }()
	facts, err := l.facts()
	if err != nil {
		return s, err
	}
	s.Oldest.Epoch, s.Newest.Epoch = string(facts[factEpoch]), string(facts[factEpoch])
	r := record{b: facts[factNewest]}
	if s.Newest.Seq = r.seq(); r.bad {
		problem("the position of the newest message cannot be read")
	}
	s.Oldest.Seq = s.Newest.Seq
	held := map[*group]*state{}
	for _, g := range l.groups {
		held[g] = &state{}
		if err := names.Check(g.name); err != nil && g.name[0] != '$' {
			problem(fmt.Sprintf("group %q: %v", g.name, err))
		}
	}
	err = l.messages(func(m *stored) error {
		if m.err != nil {
			problem(fmt.Sprintf("message %d: %v", m.seq, m.err))
			return nil
		}
		if m.seq > s.Newest.Seq {
			problem(fmt.Sprintf("message %d is behind the newest, %d", m.seq, s.Newest.Seq))
		}
		x := held[m.g]
		x.messages++
		x.bytes += int64(len(m.frame.Bytes))
		s.Oldest.Seq = min(s.Oldest.Seq, m.seq-1)
		return nil
	})
	if err != nil {
		return s, err
	}
	indexed := map[uint32]int64{}
	err = l.each(indexSpace, func(key, value []byte) error {
		i, err := readIndex(key, value)
		g := l.byNo[binary.BigEndian.Uint32(key[1:])]
		switch {
		case err != nil:
			problem(fmt.Sprintf("the index of message %d: %v", seqOf(key), err))
		case g != nil && i.seq > g.next.gone:
			indexed[g.no]++
		}
		return nil
	})
	for g, x := range held {
		s.Messages += x.messages
		s.Bytes += x.bytes
		if x.messages > 0 {
			s.Groups++
		}
		if x.messages != g.next.messages || x.bytes != g.next.bytes || indexed[g.no] != x.messages {
			problem(fmt.Sprintf("group %q holds %d messages of %d bytes, and %d in its index; its record says %d of %d",
				g.name, x.messages, x.bytes, indexed[g.no], g.next.messages, g.next.bytes))
		}
	}
	return s, err
}

// stored is a message as it is found.
type stored struct {
	seq   store.Seq
	g     *group
	frame store.Frame
	err   error // it is not as it was written
}

// messages calls f for each message that is held, in order. Those that were evicted, and only not
// yet deleted, are left out.
func (l *Log) messages(f func(*stored) error) error {
	return l.each(messageSpace, func(key, value []byte) error {
		return l.found(key, value, false, f)
	})
}

// retained is messages for those that are retained.
func (l *Log) retained(f func(*stored) error) error {
	return l.each(retainedSpace, func(key, value []byte) error {
		return l.found(key, value, true, f)
	})
}

func (l *Log) found(key, value []byte, retained bool, f func(*stored) error) error {
	h, frame, err := readMessage(value)
	m := stored{seq: seqOf(key), g: l.byNo[h.no], err: err}
	switch {
	case err != nil:
	case m.g == nil, retained && m.g.next.retained != m.seq, !retained && m.seq <= m.g.next.gone:
		return nil // it is as good as deleted
	default:
		m.frame = store.Frame{Seq: m.seq, Group: m.g.name, Flags: h.flags, Msg: h.msg, Bytes: frame}
		m.err = m.check(h)
	}
	return f(&m)
}

// check compares the frame with what is known of it.
func (m *stored) check(h header) error {
	var data wire
	line, _, ok := bytes.Cut(m.frame.Bytes, []byte("\n"))
	id, err := store.ParseID(string(bytes.TrimPrefix(line, []byte("id: "))))
	switch {
	case !ok || err != nil || id.Seq != m.seq:
		return errors.New("its frame begins with another id")
	case h.msg < 0 || h.msg > len(m.frame.Bytes)-4 || !bytes.HasSuffix(m.frame.Bytes, []byte("}\n\n")):
		return errors.New("its frame has no end")
	case json.Unmarshal(m.frame.Data(), &data) != nil || !bytes.Equal(data.Msg, m.frame.JSON()):
		return errors.New("its frame is no JSON")
	case data.Group != m.g.name:
		return fmt.Errorf("it is of group %q, and filed under %q", data.Group, m.g.name)
	}
	return nil
}

// wire is a message as its frame has it.
type wire struct {
	ID, Group, UID, Event, Encoding string
	Time, Expires                   time.Time
	Retain                          bool
	Msg                             json.RawMessage
}

// other is a line of an export that is no message.
type other struct {
	Type   string          `json:"type"`
	Format string          `json:"format,omitempty"` // of "store", the first line
	Key    []byte          `json:"key,omitempty"`    // as the store has it, in base64
	Value  []byte          `json:"value,omitempty"`
	Name   string          `json:"name,omitempty"`    // of a group or a policy, for those who read it
	Msg    json.RawMessage `json:"message,omitempty"` // of "retained"
}

// lines are what an export has beside messages: by type, the space whose keys and values it has.
var lines = []struct {
	kind  string
	space byte
}{{"fact", factSpace}, {"group", groupSpace}, {"note", noteSpace}, {"policy", policySpace}}

// Export writes all of a store that no hub has open as ndjson: what Import needs to make the same
// store of it, and then each message as GET /v1/history gives it, oldest first. Step, which may be
// nil, hears of the bytes of each message.
func Export(dir string, to io.Writer, step func(bytes int)) (err error) {
	l, err := openTool(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.engine.close()) }()
	w := bufio.NewWriterSize(to, 1<<20)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(other{Type: "store", Format: format}); err != nil {
		return err
	}
	for _, kind := range lines {
		if err := l.each(kind.space, func(key, value []byte) error {
			o := other{Type: kind.kind, Key: key, Value: value}
			switch kind.space {
			case groupSpace:
				o.Name = l.byNo[binary.BigEndian.Uint32(key[1:])].name
			case policySpace, factSpace:
				o.Name = string(key[1:])
			}
			return enc.Encode(o)
		}); err != nil {
			return err
		}
	}
	if err := l.retained(func(m *stored) error {
		if m.err != nil {
			return fmt.Errorf("retained message %d: %w", m.seq, m.err)
		}
		return enc.Encode(other{Type: "retained", Msg: m.frame.Data()})
	}); err != nil {
		return err
	}
	if err := l.messages(func(m *stored) error {
		if m.err != nil {
			return fmt.Errorf("message %d: %w", m.seq, m.err)
		}
		if step != nil {
			step(len(m.frame.Data()))
		}
		_, err := w.Write(append(m.frame.Data(), '\n'))
		return err
	}); err != nil {
		return err
	}
	return w.Flush()
}

// Import makes a store in a new folder of what Export has written: with the same ids, so that
// listeners resume as if it were the one that was exported. The folder is there when all is in it,
// and not before.
func Import(dir string, from io.Reader, step func(bytes int)) (err error) {
	if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
		return fmt.Errorf("there is something in %s: import into a new folder", dir)
	}
	fresh := filepath.Clean(dir) + ".importing"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(fresh)) }() // nothing, if all went well
	l := newTool(fresh)
	if err := makeFormat(system, fresh); err != nil {
		return err
	}
	if err := l.openLog(fresh); err != nil {
		return err
	}
	if err := errors.Join(l.fillFrom(from, step), l.engine.close()); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Rename(fresh, dir)
}

// fillFrom writes what an export's lines say.
func (l *Log) fillFrom(from io.Reader, step func(bytes int)) error {
	in := bufio.NewReaderSize(from, 1<<20)
	for n, end := 0, false; !end; {
		var wrong error // of the input: the engine is well
		if err := l.engine.commit(false, func(b *batch) error {
			for b.Len() < maxTurn && !end && wrong == nil {
				line, err := in.ReadBytes('\n')
				if end = err == io.EOF; err != nil && !end {
					wrong = err
				}
				if len(bytes.TrimSpace(line)) == 0 || wrong != nil {
					continue
				}
				n++
				if err := l.restore(b, line, n == 1); err != nil {
					wrong = fmt.Errorf("line %d: %w", n, err)
				} else if step != nil {
					step(len(line))
				}
			}
			return nil
		}); err != nil {
			return err
		}
		switch {
		case wrong != nil:
			return wrong
		case end && n == 0:
			return errors.New("there is no line to import")
		}
	}
	return l.engine.sync()
}

// restore writes what one line says.
func (l *Log) restore(b *batch, line []byte, first bool) error {
	var o other
	if err := json.Unmarshal(line, &o); err != nil {
		return fmt.Errorf("it is no line of an export: %w", err)
	}
	switch {
	case first && (o.Type != "store" || o.Format == ""):
		return errors.New(`an export begins with {"type":"store",…}: this is something else`)
	case first && o.Format != format:
		return fmt.Errorf("the export has format %.20s, and this version knows format %s: use a newer watchbox", o.Format, format)
	case first:
		return nil
	case o.Type == "":
		return l.restoreMessage(b, bytes.TrimSpace(line), false)
	case o.Type == "retained":
		return l.restoreMessage(b, o.Msg, true)
	}
	for _, kind := range lines {
		if o.Type != kind.kind {
			continue
		}
		if len(o.Key) == 0 || o.Key[0] != kind.space {
			return fmt.Errorf("its key is none of a %s", o.Type)
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

func (l *Log) restoreMessage(b *batch, data []byte, retained bool) error {
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
		return fmt.Errorf("a message of group %q, of which no line has told", w.Group)
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
	if !w.Expires.IsZero() {
		h.expires = w.Expires.UnixMilli()
	}
	value := make([]byte, headerSize, headerSize+len(frame))
	h.put(value)
	if retained {
		return b.Set(seqKey(retainedSpace, id.Seq), append(value, frame...), nil)
	}
	if err := b.Set(seqKey(messageSpace, id.Seq), append(value, frame...), nil); err != nil {
		return err
	}
	i := item{seq: id.Seq, size: len(frame), time: h.time, expires: h.expires}
	return b.Set(indexKey(g.no, id.Seq), i.appendIndex(nil), nil)
}
