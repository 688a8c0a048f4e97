package watchbox

import (
	"bytes"
	"runtime"
	"strconv"
)

// goroutine returns the number of this goroutine, which the runtime shows only in stack traces.
// net/http's HTTP/2 reads it in the same way. It takes about 1 µs.
func goroutine() uint64 {
	var buf [64]byte
	trace := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	number, _, _ := bytes.Cut(trace, []byte(" "))
	n, _ := strconv.ParseUint(string(number), 10, 64) // 0 is no goroutine's number
	return n
}
