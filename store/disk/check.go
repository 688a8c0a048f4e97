package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	names "github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// Summary is the result of Check.
type Summary struct {
	Groups, Messages, Bytes int64 // in the log; Bytes are the sizes of the frames
	Oldest, Newest          store.ID
}

// toolMemory limits the engine's caches in a tool, in bytes.
const toolMemory = 64 << 20

// openTool opens an existing store for a tool. It changes nothing, and fails if another process has the
// store open.
func openTool(dir string) (*Log, error) {
	if _, err := os.Stat(filepath.Join(dir, formatFile)); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no store in %s", dir)
	}
	err := checkFormat(system, dir)
	if err == nil {
		var l *Log
		if l, err = openFolder(logDir(system, dir), true); err == nil {
			l.opts.Dir = dir
			return l, nil
		}
	}
	return nil, fmt.Errorf("the store in %s: %w", dir, err)
}

// openFolder opens the engine in a folder. If the engine exists, it is opened for reading only, and all
// of it but the messages is loaded; otherwise it is created.
func openFolder(folder string, exists bool) (l *Log, err error) {
	l = &Log{
		opts:   Options{MaxMemory: toolMemory, fs: system, call: direct},
		groups: map[string]*group{}, byNo: map[uint32]*group{},
	}
	l.engine, err = openEngine(engineOptions{
		fs: system, dir: folder, made: exists, readOnly: exists, memory: toolMemory, call: direct,
	})
	if err == nil && exists {
		if err = firstError(l.loadPolicies(), l.loadGroups()); err != nil {
			_ = l.engine.close()
		}
	}
	if err != nil {
		return nil, describe(err)
	}
	return l, nil
}

func firstError(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// Progress is called for each message or line that is read, with its size and the size of all of them
// in bytes. all is 0 if that is not known. A Progress may be nil.
type Progress func(bytes int, all int64)

// progress returns a function that reports each message of the log to p.
func (l *Log) progress(p Progress) func(bytes int) {
	all := int64(0)
	for _, g := range l.groups {
		all += g.next.bytes
	}
	return func(bytes int) {
		if p != nil {
			p(bytes, all)
		}
	}
}

// Check reads a whole store that no hub has open, and calls problem for each fault that it finds. It
// returns an error if the store cannot be read.
func Check(dir string, problem func(string), p Progress) (s Summary, err error) {
	l, err := openTool(dir)
	if err != nil {
		return s, err
	}
	known, err := readIDs(system, dir)
	if err != nil {
		problem(err.Error())
	}
	s, err = l.check(context.Background(), known, problem, p)
	if err = firstError(err, l.engine.close()); err != nil {
		return s, fmt.Errorf("the store in %s: %w", dir, describe(err))
	}
	return s, nil
}

// check is Check for an open log.
func (l *Log) check(ctx context.Context, known ids, problem func(string), p Progress) (s Summary, err error) {
	facts, err := l.facts()
	if err != nil {
		return s, err
	}
	epoch := string(facts[factEpoch])
	s.Oldest.Epoch, s.Newest.Epoch = epoch, epoch
	if s.Newest.Seq, err = l.readNewest(facts[factNewest]); err != nil {
		problem(err.Error())
		r := record{b: facts[factNewest]}
		s.Newest.Seq = r.seq()
	}
	if known != (ids{}) { // otherwise the read error has been reported
		if lost, err := l.missesMessages(known, facts); err != nil {
			problem(err.Error())
		} else if lost {
			problem("the newest messages are missing: listeners will get a gap")
		}
	}
	if epoch == "" {
		problem("its epoch is missing")
	}
	s.Oldest.Seq = s.Newest.Seq
	held := map[*group]*state{}
	for _, g := range l.groups {
		held[g] = &state{}
		if err := names.Check(g.name); err != nil && g.name[0] != '$' {
			problem(fmt.Sprintf("group %q: %v", g.name, err))
		}
	}
	read := l.progress(p)
	err = l.messages(func(m *stored) error {
		read(len(m.frame.Bytes))
		if err := ctx.Err(); err != nil {
			return err
		}
		if m.err != nil {
			problem(fmt.Sprintf("message %d: %v", m.seq, m.err))
			return nil
		}
		if m.seq > s.Newest.Seq {
			problem(fmt.Sprintf("message %d is newer than the newest on record, %d", m.seq, s.Newest.Seq))
		}
		if m.time < l.clock {
			problem(fmt.Sprintf("message %d is older than those before it", m.seq))
		}
		l.clock = m.time
		x := held[m.g]
		x.messages++
		x.bytes += int64(len(m.frame.Bytes))
		s.Oldest.Seq = min(s.Oldest.Seq, m.seq-1)
		return nil
	})
	if err != nil {
		return s, err
	}
	if err := l.retained(func(m *stored) error {
		if m.err != nil {
			problem(fmt.Sprintf("retained message %d: %v", m.seq, m.err))
			return nil
		}
		held[m.g].retained = m.seq
		return nil
	}); err != nil {
		return s, err
	}
	if err := l.each(noteSpace, func(key, value []byte) error {
		if r := (record{b: value}); r.seq() > s.Newest.Seq || r.bad {
			problem(fmt.Sprintf("note %q: %v", key[1:], errRecord))
		}
		return nil
	}); err != nil {
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
		if x.retained != g.next.retained {
			problem(fmt.Sprintf("group %q retains message %d, and its record says %d", g.name, x.retained, g.next.retained))
		}
	}
	return s, err
}

// stored is a message on disk.
type stored struct {
	seq   store.Seq
	time  int64 // ms
	g     *group
	frame store.Frame
	err   error // set if the message is damaged
}

// messages calls f for each message in the log, in order. It skips messages that are evicted but not yet
// deleted.
func (l *Log) messages(f func(*stored) error) error {
	return l.each(messageSpace, func(key, value []byte) error {
		return l.found(key, value, false, f)
	})
}

// retained calls f for each retained message, in order.
func (l *Log) retained(f func(*stored) error) error {
	return l.each(retainedSpace, func(key, value []byte) error {
		return l.found(key, value, true, f)
	})
}

func (l *Log) found(key, value []byte, retained bool, f func(*stored) error) error {
	h, frame, err := readMessage(value)
	m := stored{seq: seqOf(key), time: h.time, g: l.byNo[h.no], err: err}
	switch {
	case err != nil:
	case m.g == nil, retained && m.g.next.retained != m.seq, !retained && m.seq <= m.g.next.gone:
		return nil // evicted, but not yet deleted
	default:
		m.frame = store.Frame{Seq: m.seq, Group: m.g.name, Flags: h.flags, Msg: h.msg, Bytes: frame}
		m.err = m.check(h)
	}
	return f(&m)
}

// check compares the frame with the message's key, header and group.
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
		return errors.New("the data of its frame is not valid JSON")
	case data.Group != m.g.name:
		return fmt.Errorf("it is a message of group %q, stored under group %q", data.Group, m.g.name)
	}
	return nil
}

// wire is the JSON object in a message's frame.
type wire struct {
	ID, Group, UID, Event, Encoding string
	Time, Expires                   time.Time
	Retain                          bool
	Meta                            [][2]string
	Msg                             json.RawMessage
}
