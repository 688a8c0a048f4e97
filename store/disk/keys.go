package disk

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/watchbox-go/watchbox/store"
)

// The first byte of a key is its space. Numbers are big-endian, so that keys sort like their numbers.
const (
	factSpace     = 'a' // name: a fact about the whole log
	expirySpace   = 'e' // time of expiry, seq: number of the group
	groupSpace    = 'g' // number of the group: the group
	noteSpace     = 'n' // name: a note of the hub
	policySpace   = 'p' // filter: policy
	retainedSpace = 'r' // seq: a retained message
	messageSpace  = 'm' // seq: message
	indexSpace    = 'x' // number of the group, seq: the size, time and expiry of the message
)

// The facts.
const (
	factEpoch     = "epoch"
	factNewest    = "newest"    // the newest seq committed, the number of groups, and the number of messages held
	factLife      = "life"      // how often the log was opened
	factForgotten = "forgotten" // the newest loss of forgotten groups
	factInMemory  = "aside"     // the newest in-memory message of a forgotten group, written by the last run
)

var errRecord = errors.New("a record is damaged")

func seqKey(space byte, seq store.Seq) []byte {
	return binary.BigEndian.AppendUint64([]byte{space}, uint64(seq))
}

func seqOf(key []byte) store.Seq { return store.Seq(binary.BigEndian.Uint64(key[len(key)-8:])) }

func groupKey(no uint32) []byte { return binary.BigEndian.AppendUint32([]byte{groupSpace}, no) }

func indexKey(no uint32, seq store.Seq) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32([]byte{indexSpace}, no), uint64(seq))
}

// expiryKey returns the expiry key of a message, held or retained. The time is in ms.
func expiryKey(expires int64, seq store.Seq) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte{expirySpace}, uint64(expires)), uint64(seq))
}

func expiryOf(key []byte) int64 { return int64(binary.BigEndian.Uint64(key[1:])) }

// keyAfter returns the key after all keys of a space.
func keyAfter(space byte) []byte { return []byte{space + 1} }

// item describes a message without its bytes.
type item struct {
	seq     store.Seq
	size    int   // of its frame
	time    int64 // ms
	expires int64 // ms; 0: never
}

func (i *item) expired(now int64) bool { return i.expires > 0 && i.expires <= now }

// appendIndex appends the value of an index key: size, time and expiry.
func (i *item) appendIndex(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(i.size))
	b = binary.AppendUvarint(b, uint64(i.time))
	return binary.AppendUvarint(b, uint64(i.expires))
}

func readIndex(key, value []byte) (item, error) {
	r := record{b: value}
	i := item{seq: seqOf(key), size: int(r.uint()), time: int64(r.uint()), expires: int64(r.uint())}
	return i, r.end()
}

// The header of a stored message: number of its group (4 bytes), time (8) and expiry (8) in ms, offset of
// the msg (4), flags (2). The frame follows.
const headerSize = 26

type header struct {
	no      uint32
	time    int64
	expires int64
	msg     int
	flags   store.Flags
}

func (h *header) put(b []byte) {
	binary.BigEndian.PutUint32(b[0:], h.no)
	binary.BigEndian.PutUint64(b[4:], uint64(h.time))
	binary.BigEndian.PutUint64(b[12:], uint64(h.expires))
	binary.BigEndian.PutUint32(b[20:], uint32(h.msg))
	binary.BigEndian.PutUint16(b[24:], uint16(h.flags))
}

// readMessage splits a stored message.
func readMessage(b []byte) (h header, frame []byte, err error) {
	if len(b) < headerSize {
		return h, nil, errRecord
	}
	h = header{
		no:      binary.BigEndian.Uint32(b[0:]),
		time:    int64(binary.BigEndian.Uint64(b[4:])),
		expires: int64(binary.BigEndian.Uint64(b[12:])),
		msg:     int(binary.BigEndian.Uint32(b[20:])),
		flags:   store.Flags(binary.BigEndian.Uint16(b[24:])),
	}
	return h, b[headerSize:], nil
}

// record reads a stored record number by number.
type record struct {
	b   []byte
	bad bool
}

func (r *record) uint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *record) seq() store.Seq { return store.Seq(r.uint()) }

func (r *record) item() item {
	return item{seq: r.seq(), size: int(r.uint()), time: int64(r.uint()), expires: int64(r.uint())}
}

// end returns an error unless the whole record was read.
func (r *record) end() error {
	if r.bad || len(r.b) > 0 {
		return errRecord
	}
	return nil
}

func appendUints(b []byte, list ...uint64) []byte {
	for _, n := range list {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// appendRecord appends the state of a group that a restart needs.
func (g *group) appendRecord(b []byte) []byte {
	s := &g.next
	b = appendUints(b, uint64(s.messages), uint64(s.bytes),
		uint64(s.head.seq), uint64(s.head.size), uint64(s.head.time), uint64(s.head.expires),
		uint64(s.newest), uint64(s.gone), uint64(s.evicted.Seq), uint64(s.evictedTime),
		uint64(s.retained), uint64(s.retainedBytes), uint64(s.newestInMemory))
	return append(b, g.name...)
}

func readGroup(key, value []byte) (*group, error) {
	r := record{b: value}
	var s state
	s.messages, s.bytes = int64(r.uint()), int64(r.uint())
	s.head = r.item()
	s.newest, s.gone = r.seq(), r.seq()
	s.evicted.Seq, s.evictedTime = r.seq(), int64(r.uint())
	s.retained, s.retainedBytes, s.newestInMemory = r.seq(), int64(r.uint()), r.seq()
	if r.bad || len(key) != 5 || len(r.b) == 0 {
		return nil, fmt.Errorf("group %q: %w", key, errRecord)
	}
	return &group{no: binary.BigEndian.Uint32(key[1:]), name: string(r.b), next: s}, nil
}
