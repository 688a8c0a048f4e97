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

// other is a line of an export other than a message.
type other struct {
	Type   string          `json:"type"`
	Format string          `json:"format,omitempty"` // of "store", the first line
	IDs    string          `json:"ids,omitempty"`    // of "store": the ids that may have been assigned
	Key    []byte          `json:"key,omitempty"`    // as in the store, in base64
	Value  []byte          `json:"value,omitempty"`
	Name   string          `json:"name,omitempty"`    // of a group, policy or fact; informative only
	Msg    json.RawMessage `json:"message,omitempty"` // of "retained"
	Lines  int64           `json:"lines,omitempty"`   // of "end", the last line: the number of lines before it
	SHA256 string          `json:"sha256,omitempty"`  // of "end": the hash of those lines
}

// The types of the first and the last line.
const (
	firstLine = "store"
	lastLine  = "end"
)

// lines lists the types of lines that copy the keys and values of a key space, with the space.
var lines = []struct {
	kind  string
	space byte
}{{"fact", factSpace}, {"group", groupSpace}, {"note", noteSpace}, {"policy", policySpace}}

// sum counts and hashes lines.
type sum struct {
	hash  hash.Hash
	lines int64
}

func newSum() *sum { return &sum{hash: sha256.New()} }

// Write implements io.Writer. It must be called with a whole line.
func (s *sum) Write(line []byte) (int, error) {
	s.lines++
	return s.hash.Write(line)
}

// end returns the last line.
func (s *sum) end() other {
	return other{Type: lastLine, Lines: s.lines, SHA256: hex.EncodeToString(s.hash.Sum(nil))}
}

// Export writes a whole store that no hub has open as ndjson. The first lines hold what Import needs to
// rebuild the store; then follow the messages, oldest first, as GET /v1/history returns them. The last
// line holds the number of lines before it and their SHA-256.
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
		known.ending = looseEnd // the restored store then reports a gap
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
