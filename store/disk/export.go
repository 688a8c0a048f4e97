package disk

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
)

// other is a line of an export that is no message.
type other struct {
	Type   string          `json:"type"`
	Format string          `json:"format,omitempty"` // of "store", the first line
	IDs    string          `json:"ids,omitempty"`    // of "store": which may have been given out
	Key    []byte          `json:"key,omitempty"`    // as the store has it, in base64
	Value  []byte          `json:"value,omitempty"`
	Name   string          `json:"name,omitempty"`    // of a group or a policy, for those who read it
	Msg    json.RawMessage `json:"message,omitempty"` // of "retained"
	Lines  int64           `json:"lines,omitempty"`   // of "end", the last line: how many are before it
	SHA256 string          `json:"sha256,omitempty"`  // of "end": of all those lines
}

// The types of the lines that an export has one of each.
const (
	firstLine = "store"
	lastLine  = "end"
)

// lines are what else an export has beside messages: by type, the space whose keys and values it has.
var lines = []struct {
	kind  string
	space byte
}{{"fact", factSpace}, {"group", groupSpace}, {"note", noteSpace}, {"policy", policySpace}}

// sum counts lines, and sums them up.
type sum struct {
	hash  hash.Hash
	lines int64
}

func newSum() *sum { return &sum{hash: sha256.New()} }

// Write implements io.Writer, for a whole line.
func (s *sum) Write(line []byte) (int, error) {
	s.lines++
	return s.hash.Write(line)
}

// end is the last line.
func (s *sum) end() other {
	return other{Type: lastLine, Lines: s.lines, SHA256: hex.EncodeToString(s.hash.Sum(nil))}
}

// Export writes all of a store that no hub has open as ndjson: what Import needs to make the same
// store of it, and then each message as GET /v1/history gives it, oldest first. The last line says
// how many there are before it, and the SHA-256 of those.
func Export(dir string, to io.Writer, p Progress) error {
	l, err := openTool(dir)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(to, 1<<20)
	err = firstError(l.export(w, p), l.engine.close(), w.Flush())
	if err != nil {
		return fmt.Errorf("the store in %s: %w", dir, inOneLine(err))
	}
	return nil
}

func (l *Log) export(w io.Writer, p Progress) error {
	known, err := readIDs(system, l.opts.Dir)
	if err != nil {
		return err
	}
	facts, err := l.facts()
	if err != nil {
		return err
	}
	if lost, err := l.missesMessages(known, facts); err != nil {
		return err
	} else if lost {
		known.ending = looseEnd // so that what is made of it tells that something is missing
	}
	all := newSum()
	enc := json.NewEncoder(io.MultiWriter(w, all))
	enc.SetEscapeHTML(false)
	if err := enc.Encode(other{Type: firstLine, Format: format, IDs: known.String()}); err != nil {
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
	read := l.progress(p)
	var line []byte
	if err := l.messages(func(m *stored) error {
		if m.err != nil {
			return fmt.Errorf("message %d: %w", m.seq, m.err)
		}
		read(len(m.frame.Bytes))
		line = append(append(line[:0], m.frame.Data()...), '\n')
		_, _ = all.Write(line)
		_, err := w.Write(line)
		return err
	}); err != nil {
		return err
	}
	end := json.NewEncoder(w)
	return end.Encode(all.end())
}
