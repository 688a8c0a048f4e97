package mqtt

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestMissingBytesOfAPacket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.SampledFrom([]int{0, 1, 2, 127, 128, 300, 20000}), 1, 5).Draw(t, "sizes")
		var p []byte
		var ends []int
		for _, size := range sizes {
			p = appendHeader(p, 0x30, size)
			p = append(p, make([]byte, size)...)
			ends = append(ends, len(p))
		}
		// Write p in parts. After each part, the bytes up to the next end are missing.
		left := int32(0)
		for at := 0; at < len(p); {
			n := rapid.IntRange(0, len(p)-at).Draw(t, "n")
			left = missing(p[at:], n, left)
			at += n
			want := int32(0)
			for _, end := range ends {
				if end >= at {
					want = int32(end - at)
					break
				}
			}
			if at == 0 {
				want = 0
			}
			if left != want {
				t.Fatalf("after %d bytes of packets that end at %v, %d bytes are missing, not %d", at, ends, left, want)
			}
		}
	})
}

func TestNothingFollowsTheLastPacketOfTheStream(t *testing.T) {
	pong, message, bye := []byte{0xd0, 0}, []byte{0x30, 2, 'a', 'b'}, []byte{0xe0, 1, 0x98}
	for name, c := range map[string]struct {
		part int // of the message that was written before
		want []byte
	}{
		"a packet of the connection waits before it":    {4, slices.Concat(message, pong, bye)},
		"a packet of the connection waits for a packet": {3, slices.Concat(message, bye)},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPipe()
			w := &writer{socket: p}
			flush := func() {
				t.Helper()
				if err := w.flush(); err != nil {
					t.Fatal(err)
				}
			}
			p.allow(c.part)
			if n, err := w.TryWrite(message); n != c.part || err != nil {
				t.Fatal(n, err)
			}
			p.allow(-1)
			w.send(pong)
			w.last()
			w.send(pong) // too late
			if _, err := w.Write(append(message[c.part:], bye...)); err != nil {
				t.Fatal(err)
			}
			w.send(pong)
			flush()
			if !bytes.Equal(p.got, c.want) {
				t.Errorf("the client got % x, want % x", p.got, c.want)
			}
		})
	}
}
