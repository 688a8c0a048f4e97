package disk

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
)

// The engine's log is a row of chunks, none of which is over the border of a block:
//
//	checksum of all that follows it (4 bytes), length of the payload (2), kind (1),
//	number of the log (4), payload
//
// Behind the last of a log that was closed there is the header of one of another log; a file that
// was used before goes on with what it had then (pebble/record). The engine reads up to the first
// chunk that is not as it was written. A crash may leave a part of one at the end; more than that is
// the loss of something that was on disk.
const (
	chunkBlock  = 32 << 10
	chunkHeader = 11
)

// The kinds of chunks that have the number of the log: a whole record, or its first part, others, and
// its last.
const (
	wholeChunk = 5 + iota
	firstChunk
	middleChunk
	lastChunk
)

// isTorn reports whether the engine's newest log may have had more than is left.
func isTorn(fs filesystem, dir string) (bool, error) {
	list, err := fs.List(dir)
	if err != nil {
		return false, err
	}
	newest, name := uint64(0), ""
	for _, file := range list {
		if no, ok := strings.CutSuffix(file, ".log"); ok {
			if n, err := strconv.ParseUint(no, 10, 32); err == nil && n >= newest {
				newest, name = n, file
			}
		}
	}
	if name == "" {
		return false, nil
	}
	f, err := fs.Open(fs.PathJoin(dir, name))
	if err != nil {
		return false, err
	}
	b, err := io.ReadAll(f)
	if err2 := f.Close(); err == nil {
		err = err2
	}
	return endsEarly(b, uint32(newest)), err
}

// endsEarly reports whether something else follows the good chunks of a log than its end.
func endsEarly(log []byte, no uint32) bool {
	at, kind := 0, byte(wholeChunk)
	for at < len(log) {
		if left := chunkBlock - at%chunkBlock; left < chunkHeader {
			at += left
			continue
		}
		size := chunkAt(log, at, no)
		if size == 0 {
			break
		}
		kind = log[at+6]
		at += size
	}
	if kind == firstChunk || kind == middleChunk {
		return true
	}
	rest := log[min(at, len(log)):]
	if len(rest) < chunkHeader {
		return !isZero(rest)
	}
	if numberOf(rest) == no {
		return true
	}
	for at++; at < len(log); at++ {
		if chunkAt(log, at, no) > 0 {
			return true
		}
	}
	return false
}

// numberOf returns which log a header is of.
func numberOf(header []byte) uint32 { return binary.LittleEndian.Uint32(header[7:]) }

// chunkAt returns the size of the good chunk that begins there, or 0.
func chunkAt(log []byte, at int, no uint32) int {
	block := log[at:min(at-at%chunkBlock+chunkBlock, len(log))]
	if len(block) < chunkHeader || numberOf(block) != no || block[6] < wholeChunk || block[6] > lastChunk {
		return 0
	}
	size := chunkHeader + int(binary.LittleEndian.Uint16(block[4:]))
	if size > len(block) {
		return 0
	}
	sum := crc32.Checksum(block[6:size], crc32.MakeTable(crc32.Castagnoli))
	if sum = (sum>>15 | sum<<17) + 0xa282ead8; sum != binary.LittleEndian.Uint32(block) {
		return 0
	}
	return size
}

func isZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
