package hub

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of a message's metadata. The pairs whose names begin with $ have the same bounds again, for themselves.
const (
	MaxMetaPairs = 16
	MaxMeta      = 1 << 10 // bytes of all names and values
)

// MetaError reports invalid metadata.
type MetaError struct{ why string }

func (e *MetaError) Error() string { return "meta: " + e.why }

// CheckMeta returns a *MetaError if the metadata of a message is not valid.
func CheckMeta(meta [][2]string) error {
	var pairs, size [2]int // of the sender's names, and of the server's
	for _, p := range meta {
		of := 0
		if reservedMeta(p[0]) {
			of = 1
		}
		pairs[of]++
		size[of] += len(p[0]) + len(p[1])
		if !validMeta(p[0]) || !validMeta(p[1]) {
			return &MetaError{fmt.Sprintf("the pair %.64q, %.64q contains a line break or NUL, or is not UTF-8", p[0], p[1])}
		}
	}
	switch {
	case max(pairs[0], pairs[1]) > MaxMetaPairs:
		return &MetaError{fmt.Sprintf("a message has at most %d pairs", MaxMetaPairs)}
	case max(size[0], size[1]) > MaxMeta:
		return &MetaError{fmt.Sprintf("the names and values of a message are longer than %d bytes together; put long ones into the message", MaxMeta)}
	}
	return nil
}

// parseMeta parses the metadata of a JSON object that a client sent. There may be none.
func parseMeta(b []byte) (meta [][2]string, err error) {
	if len(b) == 0 {
		return nil, nil
	}
	var list [][]*string
	err = json.Unmarshal(b, &list)
	for _, p := range list {
		if len(p) != 2 || p[0] == nil || p[1] == nil {
			err = errPairs
			break
		}
		meta = append(meta, [2]string{*p[0], *p[1]})
	}
	if err != nil {
		return nil, errPairs
	}
	return meta, CheckMetaNames(meta)
}

var errPairs = &MetaError{`not a list of pairs of strings, such as [["a","1"]]`}

// CheckMetaNames returns a *MetaError if a client may not send these names over HTTP.
func CheckMetaNames(meta [][2]string) error {
	for _, p := range meta {
		switch {
		case p[0] == "":
			return &MetaError{fmt.Sprintf("the value %.64q has no name", p[1])}
		case reservedMeta(p[0]):
			return &MetaError{fmt.Sprintf("the name %.64q begins with $, as only names of the server do; choose another one", p[0])}
		}
	}
	return nil
}

// reservedMeta reports whether a name is one of the server's own.
func reservedMeta(name string) bool { return strings.HasPrefix(name, "$") }

func validMeta(s string) bool { return !strings.ContainsAny(s, "\r\n\x00") && utf8.ValidString(s) }

// metaSize returns the bytes that metadata takes in a frame, or a little less.
func metaSize(meta [][2]string) int {
	n := 0
	for _, p := range meta {
		n += len(p[0]) + len(p[1]) + len(`["",""],`)
	}
	return n
}
