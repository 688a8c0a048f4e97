package mqtt

import (
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
