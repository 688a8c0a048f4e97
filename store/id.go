package store

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// Seq is a message's number within an epoch. It is at least 1 and rises with each message of any group: by one
// within an Append, and perhaps by more between two. As a position it means that everything up to it has been
// seen; 0 is before the first message.
type Seq uint64

// ID is a message's id, written <epoch>-<seq>. The epoch distinguishes logs that number their messages
// from 1. An id consists of [a-z0-9-], so that a browser may send it in Last-Event-ID without a CORS
// preflight (WHATWG Fetch, CORS-safelisted request-header).
type ID struct {
	Epoch string
	Seq   Seq
}

// String returns <epoch>-<seq>.
func (id ID) String() string { return string(id.Append(nil)) }

// Append appends the id's text to b.
func (id ID) Append(b []byte) []byte {
	b = append(b, id.Epoch...)
	b = append(b, '-')
	return strconv.AppendUint(b, uint64(id.Seq), 10)
}

// maxEpoch is the longest epoch that ParseID accepts.
const maxEpoch = 16

// ParseID parses the format of String, and accepts no other.
func ParseID(s string) (ID, error) {
	epoch, seq, ok := strings.Cut(s, "-")
	if !ok || !isEpoch(epoch) {
		return ID{}, fmt.Errorf("%.64q is no message id: an id looks like 4k7q9x-1042", s)
	}
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil || seq != strconv.FormatUint(n, 10) {
		return ID{}, fmt.Errorf("%.64q is no message id: what follows the - is no number", s)
	}
	return ID{strings.Clone(epoch), Seq(n)}, nil
}

func isEpoch(s string) bool {
	if s == "" || len(s) > maxEpoch {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// NewEpoch returns a random epoch of six characters. It is short because every message carries it,
// and equals an earlier log's epoch with a probability of 1 in 2 billion.
func NewEpoch() string {
	const digits = 6
	n, err := rand.Int(rand.Reader, new(big.Int).Exp(big.NewInt(36), big.NewInt(digits), nil))
	if err != nil {
		panic("store: no randomness: " + err.Error()) // crypto/rand never fails on a supported system
	}
	return fmt.Sprintf("%0*s", digits, strconv.FormatUint(n.Uint64(), 36))
}
