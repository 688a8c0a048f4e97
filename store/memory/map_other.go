//go:build !unix

package memory

// Without a portable way to map memory, chunks come from the Go heap.
func mapMemory(n int) []byte { return make([]byte, n) }

func unmapMemory([]byte) {}

func discardMemory([]byte) bool { return false }
