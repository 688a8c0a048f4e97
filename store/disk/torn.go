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
// A log that was closed ends with the header of a chunk of the next log. A reused file still has its old
// content after that (pebble/record). The engine reads up to the first invalid chunk.
//
// A record is acknowledged after it was written completely and, with --fsync always, synced. A kill or a
// power cut therefore leaves valid chunks, followed at most by a part of records that were not acknowledged.
// A kill leaves the beginning of a write: write(2) copies page by page and stops between two pages when the
// process is killed. The file then ends at a page boundary, or where a write and therefore a chunk ends. A
// kill never leaves the following, which proves that the log is damaged and may have lost acknowledged
// messages:
//
//   - a valid chunk after an invalid one. (A power cut may leave that, too, if the disk wrote the pages of
//     unsynced records in another order. The two cases cannot be distinguished.)
//   - a file that ends inside a chunk and not at a sector boundary.
//
// A log that was truncated between two chunks or at a sector boundary looks like one after a kill. This
// proves nothing, so it is not reported as a gap.
const (
	chunkBlock  = 32 << 10
	chunkHeader = 11
	sectorSize  = 512 // the least that a disk writes atomically
)

// The kinds of chunks with a log number, from wholeChunk to lastChunk: a whole record, and the first, a middle
// and the last part of one.
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

// showsDamage reports whether a log has content after its valid chunks that a kill cannot leave.
func showsDamage(log []byte, no uint32) bool {
	end := validChunks(log, no)
	return endsInsideSector(log, end, no) || hasChunkAfter(log, end, no)
}

// validChunks returns where the first invalid chunk begins.
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

// hasChunkAfter reports whether a valid chunk begins anywhere after an invalid one.
func hasChunkAfter(log []byte, invalid int, no uint32) bool {
	for at := invalid + 1; at < len(log); at++ {
		if chunkAt(log, at, no) > 0 {
			return true
		}
	}
	return false
}

// endsInsideSector reports whether a log is cut off inside the chunk that begins at the given offset, and not
// at a sector boundary.
func endsInsideSector(log []byte, at int, no uint32) bool {
	if len(log)%sectorSize == 0 || at >= len(log) {
		return false
	}
	chunk := log[at:]
	return len(chunk) < chunkHeader || numberOf(chunk) == no && lengthOf(chunk) > len(chunk)
}

// numberOf returns the log number in a header.
func numberOf(header []byte) uint32 { return binary.LittleEndian.Uint32(header[7:]) }

// lengthOf returns the length of a chunk with its header.
func lengthOf(header []byte) int { return chunkHeader + int(binary.LittleEndian.Uint16(header[4:])) }

// chunkAt returns the size of the valid chunk that begins at the given offset, or 0.
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
