package disk

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
)

// The engine's log is a sequence of chunks, none of which crosses the border of a block:
//
//	checksum of all that follows it (4 bytes), length of the payload (2), kind (1),
//	number of the log (4), payload
//
// A log that was closed ends with the header of a chunk of the next log. A file that was used before
// still has its old content behind that (pebble/record). The engine reads up to the first chunk that
// is not valid.
//
// A record is acknowledged after all of it was written, and with --fsync always after it was synced.
// A kill or a power cut therefore leaves valid chunks, and behind them at most a part of records that
// nobody was told of. A kill leaves the beginning of a write: write(2) copies page by page and ends
// between two pages when the process is killed, so that the file ends at a page or where a write
// ends, which is where a chunk ends. Two things are never left by a kill, and prove that the log is
// damaged and may have lost acknowledged messages:
//
//   - a valid chunk behind one that is not valid. (A power cut may leave that, too, if the disk wrote
//     the pages of unsynced records in another order. The two cannot be told apart.)
//   - a file that ends inside a chunk, and not at a sector.
//
// What a log looks like that was cut off between two chunks, or at a sector, with nothing behind it, is
// what a kill leaves. It is no proof, and tells no gap.
const (
	chunkBlock  = 32 << 10
	chunkHeader = 11
	sectorSize  = 512 // the least that a disk writes at once
)

// The kinds of chunks that have the number of the log: a whole record, its first part, a middle part
// and its last part.
const (
	wholeChunk = 5
	lastChunk  = 8
)

// isDamaged reports whether the engine's newest log may have lost acknowledged records.
func isDamaged(fs filesystem, dir string) (bool, error) {
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
	return showsDamage(b, uint32(newest)), err
}

// showsDamage reports whether a log has what no kill leaves behind its valid chunks.
func showsDamage(log []byte, no uint32) bool {
	end := validChunks(log, no)
	return endsInsideSector(log, end, no) || hasChunkBehind(log, end, no)
}

// validChunks returns where the first chunk begins that is not valid.
func validChunks(log []byte, no uint32) (at int) {
	for at < len(log) {
		if left := chunkBlock - at%chunkBlock; left < chunkHeader {
			at += left // too short for a chunk
			continue
		}
		size := chunkAt(log, at, no)
		if size == 0 {
			break
		}
		at += size
	}
	return at
}

// hasChunkBehind reports whether a valid chunk begins anywhere behind a chunk that is not valid.
func hasChunkBehind(log []byte, invalid int, no uint32) bool {
	for at := invalid + 1; at < len(log); at++ {
		if chunkAt(log, at, no) > 0 {
			return true
		}
	}
	return false
}

// endsInsideSector reports whether a log is cut off inside the chunk that begins at a place, and not at a
// sector's border.
func endsInsideSector(log []byte, at int, no uint32) bool {
	if len(log)%sectorSize == 0 || at >= len(log) {
		return false
	}
	chunk := log[at:]
	return len(chunk) < chunkHeader || numberOf(chunk) == no && lengthOf(chunk) > len(chunk)
}

// numberOf returns which log a header is of.
func numberOf(header []byte) uint32 { return binary.LittleEndian.Uint32(header[7:]) }

// lengthOf returns the length of a chunk with its header.
func lengthOf(header []byte) int { return chunkHeader + int(binary.LittleEndian.Uint16(header[4:])) }

// chunkAt returns the size of the valid chunk that begins there, or 0.
func chunkAt(log []byte, at int, no uint32) int {
	block := log[at:min(at-at%chunkBlock+chunkBlock, len(log))]
	if len(block) < chunkHeader || numberOf(block) != no || block[6] < wholeChunk || block[6] > lastChunk {
		return 0
	}
	size := lengthOf(block)
	if size > len(block) {
		return 0
	}
	sum := crc32.Checksum(block[6:size], crc32.MakeTable(crc32.Castagnoli))
	if sum = (sum>>15 | sum<<17) + 0xa282ead8; sum != binary.LittleEndian.Uint32(block) {
		return 0
	}
	return size
}
