package memory

import "github.com/klauspost/compress/zstd"

// codec compresses chunks. Both halves may be used at once, and start no goroutine.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newCodec() codec {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(blockSize), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic("memory: zstd options: " + err.Error())
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		panic("memory: zstd options: " + err.Error())
	}
	return codec{enc, dec}
}

// pack compresses a full chunk's frames. The work is done on a copy, without the lock.
func (l *Log) pack(c *chunk) {
	l.mu.RLock()
	if c.ring == nil || c.packed > 0 {
		l.mu.RUnlock()
		return
	}
	frames := append([]byte(nil), c.mem.data[:c.end]...)
	l.mu.RUnlock()

	packed := l.codec().enc.EncodeAll(frames, nil)

	l.mu.Lock()
	defer l.mu.Unlock()
	size := len(packed) + c.n*slotSize
	if c.ring == nil || roundUp(size) >= len(c.mem.data) {
		return
	}
	mem, ok := l.arena.alloc(size, history, false)
	if !ok {
		return // no room for both at once: it stays as it is until it is evicted
	}
	c.ring.memory += int64(len(mem.data) - len(c.mem.data))
	l.bySize.fix(c.ring)
	l.arena.release(c.replace(mem, packed))
}

// replace has the chunk lie compressed in other memory.
func (c *chunk) replace(to piece, packed []byte) (from piece) {
	copy(to.data, packed)
	copy(to.data[len(to.data)-c.n*slotSize:], c.mem.data[len(c.mem.data)-c.n*slotSize:])
	from, c.mem, c.packed = c.mem, to, len(packed)
	return from
}

// unpacked is the chunk that a reader is at, decompressed.
type unpacked struct {
	chunk  *chunk
	frames []byte
}

// frames returns the bytes of a chunk's frames, where they lie or as unpacked into u.
func (l *Log) frames(c *chunk, u *unpacked) []byte {
	if c.packed == 0 {
		return c.mem.data[:c.end]
	}
	if u.chunk == c {
		return u.frames
	}
	frames, err := l.codec().dec.DecodeAll(c.mem.data[:c.packed], u.frames[:0])
	if err != nil {
		panic("memory: a chunk does not unpack: " + err.Error()) // memory is corrupt
	}
	u.chunk, u.frames = c, frames
	return frames
}
