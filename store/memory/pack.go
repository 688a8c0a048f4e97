package memory

import "github.com/klauspost/compress/zstd"

// codec compresses chunks. Both halves are safe for concurrent use and start no goroutine.
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

// pack compresses a full chunk's frames. It compresses a copy without the lock.
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
		return // there is no room for both at once: the chunk stays uncompressed
	}
	c.ring.memory += int64(len(mem.data) - len(c.mem.data))
	l.bySize.fix(c.ring)
	l.arena.release(c.replace(mem, packed))
}

// replace moves the chunk, compressed, to other memory, and returns the old memory.
func (c *chunk) replace(to piece, packed []byte) (from piece) {
	copy(to.data, packed)
	copy(to.data[len(to.data)-c.n*slotSize:], c.mem.data[len(c.mem.data)-c.n*slotSize:])
	from, c.mem, c.packed = c.mem, to, int32(len(packed))
	return from
}

// unpacked caches the chunk that a reader decompressed last.
type unpacked struct {
	chunk  *chunk
	frames []byte
}

// frames returns the bytes of a chunk's frames. If the chunk is compressed, it unpacks them into u.
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
