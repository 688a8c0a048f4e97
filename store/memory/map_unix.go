//go:build unix

package memory

import "golang.org/x/sys/unix"

// mapMemory returns n zeroed bytes outside the Go heap. They take no memory until touched.
func mapMemory(n int) []byte {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return make([]byte, n) // mapping failed: use the heap
	}
	return b
}

// unmapMemory gives back what mapMemory returned. Errors mean that it was from the heap.
func unmapMemory(b []byte) { _ = unix.Munmap(b) }

// discardMemory gives the pages back and keeps the addresses. It reports whether it did.
func discardMemory(b []byte) bool { return unix.Madvise(b, unix.MADV_DONTNEED) == nil }
