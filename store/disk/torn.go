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
//	number of the log (4), where all before was synced (8; not in all kinds), payload
//
// (pebble/record). A crash may tear the last ones, and the engine reads up to the first that is not
// as it was written. Where there are good ones behind that, it was no mere end: something that was
// on disk is not any more.
const (
	chunkBlock     = 32 << 10
	chunkHeader    = 11
	firstChunkKind = 5 // those before have no number of the log
	syncChunkKind  = 9
	lastChunkKind  = 12
	syncHeader     = 19
)

// isTorn reports whether the engine's newest log has a hole.
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
	return hasHole(b, uint32(newest)), err
}

// hasHole reports whether there is a good chunk behind one that is not.
func hasHole(log []byte, no uint32) bool {
	at := 0
	for at < len(log) {
		if left := chunkBlock - at%chunkBlock; left < syncHeader && isZero(log[at:min(at+left, len(log))]) {
			at += left
			continue
		}
		size := chunkAt(log, at, no)
		if size == 0 {
			break
		}
		at += size
	}
	for at++; at < len(log); at++ {
		if chunkAt(log, at, no) > 0 {
			return true
		}
	}
	return false
}

// chunkAt returns the size of the good chunk that begins there, or 0.
func chunkAt(log []byte, at int, no uint32) int {
	block := log[at:min(at-at%chunkBlock+chunkBlock, len(log))]
	if len(block) < chunkHeader || binary.LittleEndian.Uint32(block[7:]) != no {
		return 0
	}
	kind, size := block[6], chunkHeader
	if kind < firstChunkKind || kind > lastChunkKind {
		return 0
	}
	if kind >= syncChunkKind {
		size = syncHeader
	}
	size += int(binary.LittleEndian.Uint16(block[4:]))
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
